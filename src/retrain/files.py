"""Reads files of a user's and writes files completely or not at all; their size and hash."""

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

from retrain.errors import ExportError


def temporary_sibling(path: Path) -> Path:
    """Return a name beside `path` that no other process writes to."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: a killed run leaves the old file or the new one, never half of one.

    Raises:
        OSError: The file or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(*paths: Path) -> None:
    """Make the folders of some results and fail now, not after the training, where one cannot be written.

    Raises:
        ExportError: Names the path.
    """
    for path in paths:
        probe = temporary_sibling(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror}. Give another path or fix its permissions."
            ) from error


def write_result(path: Path, data: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        ExportError: It cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another path or free some space.") from error


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Opening a named pipe would wait for a writer; on Windows, text mode would change bytes.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Return a regular file opened for reading; a pipe or a device, or a link to one, is never opened.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    check_regular(os.stat(path), path)  # noqa: PTH116
    file = io.FileIO(os.open(path, _OPEN_FLAGS))
    try:
        check_regular(os.fstat(file.fileno()), path)  # another file may have taken its place
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; of one that grows, what it held when opened.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes, and at most {limit:,} are read", os.fspath(path))
        parts = []
        while size > 0 and (part := file.read(size)):
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


def check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Refuse what is no regular file.

    Raises:
        OSError: A folder, a pipe, a device or a socket.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
