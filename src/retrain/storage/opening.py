"""Opens the file system behind a URL: the protocol's package, its options, and one connection for each host."""

import functools
import importlib
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retrain.errors import StorageError
from retrain.storage.folders import RemoteFolder

CONCURRENT = 32  # requests at once that hide the time of a round trip
_HOST = re.compile(r"\[?(.*?)\]?(?::(\d+))?", re.DOTALL)  # a name or an address, of IPv6 in brackets, and a port
_OTHERS_LOGS = ("fsspec", "asyncio", "azure", "google")  # whose errors are ours to tell


@dataclass(frozen=True)
class Protocol:
    """A kind of remote folders.

    `make` returns fsspec's file system of a host; `extra` is what brings its `package`. `sorted_pages` says that
    all files below a folder are listed at once, sorted by path; the others' are listed folder by folder.
    """

    extra: str
    package: str
    make: Callable[[Any, str], Any]
    sorted_pages: bool


def _s3(package: Any, host: str) -> Any:
    # The backoff is ours: attempts of three layers would multiply. With more than one request for a file, each file
    # would be asked for its size first.
    config = {"retries": {"max_attempts": 0}, "max_pool_connections": 2 * CONCURRENT}
    system = package.S3FileSystem(
        session=_s3_session(), config_kwargs=config, max_concurrency=1, use_listings_cache=False,
        skip_instance_cache=True,
    )  # fmt: skip
    system.retries = 1
    return system


def _s3_session() -> Any:
    """Return a session whose listings take a third of the time: two thirds went into reading the times of files."""
    session = importlib.import_module("aiobotocore.session").AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_s3_time)
    return session


def _s3_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # of HTTP headers
        time: datetime = importlib.import_module("botocore.utils").parse_timestamp(text)
        return time


def _gs(package: Any, host: str) -> Any:
    system = package.GCSFileSystem(use_listings_cache=False, skip_instance_cache=True)
    once = getattr(type(system)._request, "__wrapped__", None)  # without its six attempts
    if once is not None:
        system._request = functools.partial(once, system)
    return system


def _azure(package: Any, host: str) -> Any:
    container, _, server = host.partition("@")
    account = {"account_name": server.partition(".")[0]} if server else {}
    system = package.AzureBlobFileSystem(use_listings_cache=False, skip_instance_cache=True, **account)
    policy = getattr(getattr(system.service_client, "_config", None), "retry_policy", None)
    if policy is not None:
        policy.total_retries = 0
    return system


def _sftp(package: Any, host: str) -> Any:
    user, _, server = host.rpartition("@")
    name, port = _HOST.fullmatch(server).groups()  # type: ignore[union-attr]  # which matches any text
    options: dict[str, Any] = {"username": user} if user else {}
    if port:
        options["port"] = int(port)
    # The empty tuple stands for ~/.ssh/known_hosts; without it, sshfs would believe every host. Names of other
    # encodings keep their bytes.
    return package.SSHFileSystem(
        name,
        known_hosts=(),
        skip_instance_cache=True,
        sftp_client_kwargs={"path_errors": "surrogateescape"},
        **options,
    )


PROTOCOLS = {
    "s3": Protocol("s3", "s3fs", _s3, True),
    "gs": Protocol("gcs", "gcsfs", _gs, False),
    "abfs": Protocol("azure", "adlfs", _azure, False),
    "abfss": Protocol("azure", "adlfs", _azure, False),
    "sftp": Protocol("sftp", "sshfs", _sftp, False),
}


class Connection:
    """The file system of one host in one process, made when it is first used, and again when it broke."""

    def __init__(self, root: RemoteFolder) -> None:
        self.protocol = PROTOCOLS[root.scheme]
        self._root = root
        self._lock = threading.Lock()
        self._system: Any = None

    @property
    def system(self) -> Any:
        """Return fsspec's file system.

        Raises:
            StorageError: The protocol's package is not installed.
        """
        with self._lock:
            if self._system is None:
                self._system = self.protocol.make(_package(self._root.scheme), self._root.host)
            return self._system

    def renew(self, broken: Any) -> None:
        """Forget a file system whose connection broke, unless another thread has made a new one meanwhile."""
        with self._lock:
            if self._system is broken:
                self._system = None


def connection(folder: RemoteFolder) -> Connection:
    """Return this process' connection to the host of a folder: one that was opened before a fork is of no use."""
    return _connection(RemoteFolder(folder.root), os.getpid())


@functools.lru_cache(maxsize=64)
def _connection(root: RemoteFolder, process: int) -> Connection:
    return Connection(root)


def _package(scheme: str) -> Any:
    protocol = PROTOCOLS[scheme]
    for name in (protocol.package, *_OTHERS_LOGS):
        logger = logging.getLogger(name)
        if not logger.handlers:  # without any, Python prints what is logged, traceback and all
            logger.addHandler(logging.NullHandler())
    try:
        return importlib.import_module(protocol.package)
    except ImportError as error:
        raise StorageError(
            f"{scheme}:// needs the extra [{protocol.extra}]: pip install 'retrain-images[{protocol.extra}]'"
        ) from error
