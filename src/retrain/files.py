"""Writes a file whole or not at all."""

import os
from pathlib import Path


def aside(path: Path) -> Path:
    """Return a name beside `path` that no other process writes to."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: a killed run leaves the old file or the new one, never half of one.

    Raises:
        OSError: The file or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
