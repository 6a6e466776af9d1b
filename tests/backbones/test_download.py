import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import pytest

from retrain import files
from retrain.backbones import download
from retrain.errors import DownloadError


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, cuts its first answers short if told to, and notes what was asked."""

    def __init__(self, content, *, cuts=0, ranges=True, announces=True):
        self.content, self.cuts, self.ranges, self.announces, self.asked = content, cuts, ranges, announces, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, name="file.tgz"):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if self.path.endswith("missing.tgz"):
            self.send_error(404)
            return
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.announces:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def archive(seed=0):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        entry = tarfile.TarInfo("inside.txt")
        body = hashlib.sha512(bytes([seed])).digest() * 4000
        entry.size = len(body)
        opened.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


@pytest.fixture
def serve():
    servers = []

    def start(content, **options):
        servers.append(Server(content, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def leftovers(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_has_the_right_bytes_and_leaves_nothing_else(serve, tmp_path):
    content = archive()
    path = download.fetch(serve(content).url(), tmp_path / "new", sha256=hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content
    assert leftovers(tmp_path / "new") == ["file.tgz"]


def test_the_official_archive_comes_through_a_connection_that_is_cut_twice(serve, tmp_path, codelab_data):
    official = codelab_data / "models" / "mobilenet_v1_0.25_128_frozen.tgz"
    server = serve(official.read_bytes(), cuts=2)
    path = download.fetch(server.url(official.name), tmp_path, sha256=files.sha256_of(official))
    assert path.read_bytes() == official.read_bytes()
    assert server.asked[0] is None
    assert all(asked.startswith("bytes=") for asked in server.asked[1:])


def test_a_server_without_ranges_starts_again(serve, tmp_path):
    content = archive()
    assert download.fetch(serve(content, cuts=1, ranges=False).url(), tmp_path).read_bytes() == content


def test_a_connection_that_stays_cut_is_resumed_by_the_next_run(serve, tmp_path):
    content = archive()
    server = serve(content, cuts=download.ATTEMPTS)
    with pytest.raises(DownloadError, match="cut"):
        download.fetch(server.url(), tmp_path)
    assert leftovers(tmp_path) == ["file.tgz.part"]
    have = (tmp_path / "file.tgz.part").stat().st_size
    assert download.fetch(server.url(), tmp_path).read_bytes() == content
    assert server.asked[-1] == f"bytes={have}-"


def test_a_complete_part_of_a_killed_run_is_used(serve, tmp_path):
    content = archive()
    (tmp_path / "file.tgz.part").write_bytes(content)
    assert download.fetch(serve(content).url(), tmp_path).read_bytes() == content


def test_a_part_of_another_file_is_thrown_away_and_fetched_anew(serve, tmp_path):
    content = archive()
    (tmp_path / "file.tgz.part").write_bytes(archive(seed=1)[:1000])
    path = download.fetch(serve(content).url(), tmp_path, sha256=hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content


def test_a_wrong_hash_is_refused_and_nothing_is_left_to_trust(serve, tmp_path):
    with pytest.raises(DownloadError, match="wrong SHA-256"):
        download.fetch(serve(archive()).url(), tmp_path, sha256="0" * 64)
    assert leftovers(tmp_path) == []


def test_a_page_instead_of_an_archive_is_refused(serve, tmp_path):
    with pytest.raises(DownloadError, match="no intact"):
        download.fetch(serve(b"<html>please sign in</html>").url(), tmp_path)
    assert leftovers(tmp_path) == []


def test_errors_name_the_url_the_folder_and_the_way_without_network(serve, tmp_path):
    server = serve(archive())
    for url, words in ((server.url("missing.tgz"), "404"), ("http://127.0.0.1:9/x.tgz", "no connection")):
        with pytest.raises(DownloadError) as error:
            download.fetch(url, tmp_path)
        message = str(error.value)
        assert all(part in message for part in (url, words, str(tmp_path), "efficientnet_lite0"))
        assert "\n" not in message


def test_a_file_that_is_there_is_not_asked_for(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"anything")
    assert download.fetch("http://127.0.0.1:9/x.tgz", tmp_path) == tmp_path / "x.tgz"


def test_progress_reaches_the_whole(serve, tmp_path):
    content, seen = archive(), []
    download.fetch(serve(content).url(), tmp_path, advance=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), len(content))


def test_progress_of_an_unannounced_length_has_no_total(serve, tmp_path):
    content, seen = archive(), []
    server = serve(content, announces=False)
    download.fetch(server.url(), tmp_path, advance=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(content), 0)
