"""Writes files completely or not at all; their size and hash."""

import hashlib
import os
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
