"""Which files are images, and which image files the arguments of a command name."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from retrain.errors import DatasetError, UsageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
JPEG_MAGIC = b"\xff\xd8\xff"
MAGIC_BYTES = 12
_MAGIC = (JPEG_MAGIC, b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def has_image_magic(head: bytes) -> bool:
    """Return whether a file whose first `MAGIC_BYTES` are `head` has a format that retrain reads."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def is_image(path: Path) -> bool:
    """Return whether a file begins like an image; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return has_image_magic(file.read(MAGIC_BYTES))
    except OSError:
        return False


STANDARD_INPUT = "-"
_LONGEST_NAME = 2**16  # bytes of a name in a list; no system has longer ones
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def expand_paths(words: Sequence[str]) -> list[Path]:
    """Return the image files that arguments name: a file, a folder's image files at any depth, or a pattern's files.

    A file that does not exist is returned too: reading it reports that it is missing.

    Raises:
        UsageError: A URL, or a pattern or folder without images.
        DatasetError: A folder that cannot be read.
    """
    paths: list[Path] = []
    for word in words:
        if _URL.match(word):
            raise UsageError(f"{word} is a URL, and only files are read. Download it first: curl -O {word}")
        path = Path(word)
        if path.exists() or not glob.has_magic(word):
            images = _images_of(path)
        else:
            images = [image for match in sorted(glob.glob(word, recursive=True)) for image in _images_of(Path(match))]
        if not images:
            raise UsageError(f"no image files in {word}. Image files end in {', '.join(EXTENSIONS)}.")
        paths += images
    return paths


def read_paths(names: BinaryIO) -> Iterator[Path]:
    """Yield the paths in a stream as soon as each arrives: one a line, or one before each NUL (`find -print0`).

    They may be in any encoding; empty ones are skipped.

    Raises:
        UsageError: What comes is no list of paths.
    """
    separator, rest = b"\n", b""
    while block := names.read1(_LONGEST_NAME):  # type: ignore[attr-defined]
        if b"\0" in block:
            separator = b"\0"
        *complete, rest = (rest + block).split(separator)
        if len(rest) > _LONGEST_NAME:
            raise UsageError("standard input holds no list of files. Give it one name a line.")
        yield from _paths(complete, separator)
    yield from _paths([rest], separator)


def _paths(names: Sequence[bytes], separator: bytes) -> Iterator[Path]:
    for name in names:
        if word := name if separator == b"\0" else name.rstrip(b"\r"):
            yield Path(os.fsdecode(word))


def unreadable_reason(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, for a message to the user."""
    if isinstance(error, FileNotFoundError) and _URL_AS_PATH.match(str(path)):
        return "a URL, and only files are read. Download it first"
    return error.strerror or str(error)


def _images_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    names = list(files_below(path))
    # As in training: if no name looks like an image's, the files' contents decide.
    images = [name for name in names if name.lower().endswith(EXTENSIONS)] or [n for n in names if is_image(path / n)]
    return [path / name for name in images]


def files_below(folder: Path) -> Iterator[str]:
    """Yield the paths of all visible files below a folder, relative to it, "/"-separated, sorted within each folder.

    Raises:
        DatasetError: A folder cannot be read.
    """
    visited: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror}. Check its permissions.")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in visited:  # a symbolic link that leads back up
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(files):
            if not name.startswith("."):
                yield prefix + name
