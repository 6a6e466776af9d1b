"""Starts servers that speak S3's protocol on this machine: moto, and one of our own with a million names."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from retrain.errors import RetrainError
from retrain.storage.folders import RemoteFolder

_SECONDS = 30  # until a server must answer


@contextlib.contextmanager
def moto(bucket: str) -> Iterator[RemoteFolder]:
    """Run moto's server with an empty bucket."""
    with _server("moto.server", "-H", "127.0.0.1", "-p"):
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
        yield RemoteFolder(f"s3://{bucket}")


@contextlib.contextmanager
def listing_server(photos: Path, count: int, classes: int) -> Iterator[RemoteFolder]:
    """Run a server with `count` names in class folders, whose contents are those of a folder's photos in turns."""
    with _server("scripts.scale.listing_server", str(photos), str(count), str(classes)) as port:
        yield RemoteFolder(f"s3://photos{port}")  # a process keeps its connection to a bucket


@contextlib.contextmanager
def _server(module: str, *words: str) -> Iterator[int]:
    """Run a module with its port as the last argument, give that, and set the environment that clients need."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", module, *words, str(port)], **quiet)
    mine = {
        "AWS_ACCESS_KEY_ID": "scale",
        "AWS_SECRET_ACCESS_KEY": "scale",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    try:
        _await(port, process)
        with patch.dict(os.environ, mine):
            yield port
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RetrainError(f"`{process.args[2]}` did not start. Install the extra dev: pip install 'retrain-images[dev]'")
