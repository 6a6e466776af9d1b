"""Which image files the words of a command name: files, folders, patterns, and lists on standard input."""

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from retrain.dataset import files_below
from retrain.errors import UsageError
from retrain.formats import EXTENSIONS, is_image

STANDARD_INPUT = "-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def named(words: Sequence[str]) -> list[Path]:
    """Return the files that some words name: a file itself, a folder's image files at any depth, a pattern's files.

    A word that names nothing that exists stands for itself: who reads it will say that it is not there.

    Raises:
        UsageError: A URL, or a pattern or folder without images.
        DatasetError: A folder that cannot be read.
    """
    found: list[Path] = []
    for word in words:
        if _URL.match(word):
            raise UsageError(f"{word} is a URL, and only files are read. Download it first, with `curl -O {word}` say.")
        path = Path(word)
        if path.exists() or not glob.has_magic(word):
            own = _images_of(path)
        else:
            own = [image for match in sorted(glob.glob(word, recursive=True)) for image in _images_of(Path(match))]
        if not own:
            raise UsageError(f"no image files in {word}. Image files end in {', '.join(EXTENSIONS)}.")
        found += own
    return found


def listed(lines: TextIO) -> Iterator[Path]:
    """Yield the paths in a text, one a line, as soon as each line is there; empty lines are passed over."""
    for line in lines:
        if word := line.rstrip("\r\n"):
            yield Path(word)


def why_not(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, in words for who named it."""
    if isinstance(error, FileNotFoundError) and _URL_AS_PATH.match(str(path)):
        return "a URL, and only files are read. Download it first"
    return error.strerror or str(error)


def _images_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    names = list(files_below(path))
    # As in training: where no name looks like an image's, the files themselves are looked at.
    images = [name for name in names if name.lower().endswith(EXTENSIONS)] or [n for n in names if is_image(path / n)]
    return [path / name for name in images]
