"""Servers on this machine for the tests: moto's, which speaks S3, and one in front of it that is busy at times."""

import contextlib
import functools
import http.client
import http.server
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS = 60  # that a server may take to start on a loaded machine
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # which the log has where an answer is not a plain 200
PAGE = 10  # names in an answer to a request for a listing
_numbers = itertools.count()


@dataclass
class S3Server:
    """A server of S3 and its log of requests."""

    endpoint: str
    log: Path

    @property
    def env(self) -> dict[str, str]:
        """Return what a process needs in its environment to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "a secret of nobody",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def requests(self) -> list[str]:
        """Return the requests so far, "GET /bucket/key" say, without the queries, and listings as "LIST /bucket"."""
        lines = re.findall(r'"([A-Z]+) (\S+) HTTP', _COLOUR.sub("", self.log.read_text()))
        return [f"LIST {url.partition('?')[0]}" if "list-type" in url else f"{verb} {url}" for verb, url in lines]


@dataclass
class Bucket:
    """A bucket of its own for a test; `s3://name`."""

    name: str
    server: S3Server
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        _client_at(self.server.endpoint).put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        _client_at(self.server.endpoint).delete_object(Bucket=self.name, Key=key)

    def upload(self, folder: Path, prefix: str) -> str:
        """Upload the files of a folder and return the URL of it there."""
        client = _client_at(self.server.endpoint)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        return f"{self.url}/{prefix}"

    def reads(self) -> list[str]:
        """Return the keys whose content was asked for so far."""
        start = f"GET /{self.name}/"
        return [line.removeprefix(start) for line in self.server.requests() if line.startswith(start)]


@functools.cache
def _client_at(endpoint: str):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="tester",
        aws_secret_access_key="a secret of nobody",
        region_name="us-east-1",
    )


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run moto's server in a process of its own, which is the nearest to S3 that installs with pip."""
    log = folder / "requests.log"
    with log.open("w") as file:
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        # Listings come in pages of 1,000 names; so few show the seams of pages.
        env = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)}
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=env)
    try:
        deadline = time.monotonic() + _SECONDS
        while not (port := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield S3Server(f"http://127.0.0.1:{port[1]}", log)
    finally:
        process.kill()
        process.wait()


def new_bucket(server: S3Server) -> Bucket:
    bucket = Bucket(f"bucket-{os.getpid()}-{next(_numbers)}", server)
    _client_at(server.endpoint).create_bucket(Bucket=bucket.name)
    return bucket


def forget_connections() -> None:
    """Let the next use of a remote folder read the environment again."""
    from retrain.storage import access, opening

    opening._connection.cache_clear()
    access._remote.cache_clear()


@dataclass
class BusyServer:
    """Stands before another server, and answers the next `busy` requests itself: 503 Slow Down, or by hanging up.

    It may also lose the answer, or break off in the middle of it.
    """

    endpoint: str
    busy: int = 0
    status: int = 503
    code: str = "SlowDown"
    hangs_up: bool = False
    loses_answers: bool = False
    breaks_off: bool = False
    turned_away: int = 0


@contextlib.contextmanager
def busy_server(behind: str) -> Iterator[BusyServer]:
    """Run a server that forwards requests to the one at `behind`, apart from those for which it is too busy."""
    lock = threading.Lock()
    state = BusyServer("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                turned_away = state.busy > 0
                state.busy -= turned_away
                state.turned_away += turned_away
            if turned_away and not (state.loses_answers or state.breaks_off):
                if state.hangs_up:
                    self.close_connection = True
                    return
                said = f"<Error><Code>{state.code}</Code><Message>the key hunter2 is no good</Message></Error>"
                self._send(state.status, {"Content-Type": "application/xml"}, said.encode())
                return
            connection = http.client.HTTPConnection(behind.removeprefix("http://"))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.close_connection = self.close_connection or turned_away
            if not (turned_away and state.loses_answers):
                sent = content[: len(content) // (1 + turned_away)]
                self._send(answer.status, dict(answer.getheaders()), sent, len(content))

        def _send(self, status: int, headers: dict[str, str], content: bytes, said: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            length = (said or len(content)) if self.command != "HEAD" else int(headers.get("content-length", 0) or 0)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
