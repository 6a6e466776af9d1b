"""Names of folders: a path on this machine, or a URL."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from retrain.errors import UsageError

SCHEMES = ("s3", "gs", "abfs", "abfss", "sftp", "file")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_USER = re.compile(r"(?:[^@/:?#]*@)?[^@/?#]*")  # of a host: a user, or a container of Azure, but no password
_SECRET = (
    "Give credentials as the tools of that service read them (environment variables or their files), never in a URL."
)


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder, or a file, at a URL: what is to the left of its path, "s3://bucket", and the path, "" for the root.

    A value that may go to other processes; `storage.access.of` opens it where it is used.
    """

    root: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.root, f"{self.path}/{name}" if self.path else str(name))

    @property
    def scheme(self) -> str:
        """Return the name of the protocol."""
        return self.root.partition("://")[0]

    @property
    def host(self) -> str:
        """Return the bucket, the container or the machine, with its user and port if any."""
        return self.root.partition("://")[2]

    @property
    def name(self) -> str:
        """Return the last part of the path, or the host."""
        return self.path.rpartition("/")[2] or self.host

    @property
    def parent(self) -> Self:
        """Return the folder that it lies in; the root lies in itself."""
        return type(self)(self.root, self.path.rpartition("/")[0])

    def resolve(self) -> Self:
        """Return it: nothing that this machine knows gives it another name."""
        return self

    def absolute(self) -> Self:
        """Return it, which depends on no working folder."""
        return self


Folder = Path | RemoteFolder


def is_url(text: str) -> bool:
    """Return whether a text is a URL, of any protocol."""
    return _URL.match(text) is not None


def folder(text: str) -> Folder:
    """Return the folder that a text names: a URL, or a path on this machine.

    Raises:
        UsageError: A protocol that is not read, or a URL with a password or a token, neither of which is repeated.
    """
    match = _URL.match(text)
    if match is None:
        return Path(text)
    scheme = match[1].lower()
    if scheme == "file":
        return _local(text)
    if scheme not in SCHEMES:
        names = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{scheme}:// is no protocol of folders. Give a path, or a URL that begins with {names}.")
    host, _, path = text[match.end() :].partition("/")
    if "?" in text:
        raise UsageError(f"the {scheme}:// URL has a query in it, behind the question mark. {_SECRET}")
    if not _USER.fullmatch(host) or host.count("@") > 1:
        raise UsageError(f"the {scheme}:// URL has a password in it. {_SECRET}")
    if not host:
        raise UsageError(f"{scheme}:// names no bucket or host. Write {scheme}://bucket/folder.")
    return RemoteFolder(f"{scheme}://{host}", path.strip("/"))


def _local(text: str) -> Path:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError("a file:// URL names a folder of this machine, with three slashes: file:///home/me/photos")
    return Path(unquote(parts.path, errors="surrogateescape"))
