"""Moves photos: nothing is overwritten, and a move that is killed leaves the photo in one place or in both."""

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from retrain.files import aside, remove_stale_drafts, sha256_of


def move(source: Path, place: Path) -> None:
    """Move a file to a free path, on another file system too; one that is killed leaves both, or a draft beside.

    Raises:
        OSError: It cannot be moved, or the path is not free.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _put(source, place)
    except OSError as error:  # which may name a draft
        raise OSError(error.errno, error.strerror, str(place)) from error
    try:
        source.unlink()
    except OSError:
        place.unlink()
        raise


def _put(source: Path, place: Path) -> None:
    with suppress(OSError):
        os.link(source, place)  # which, unlike renaming, never overwrites
        return
    # Another file system, or one without such links.
    if os.path.lexists(place):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    draft = aside(place)
    try:
        shutil.copy2(source, draft)
        draft.rename(place)
    finally:
        draft.unlink(missing_ok=True)


def drop_copy(copy: Path, kept: Path) -> None:
    """Remove one of two files of the same content; of two names for one file, on systems that ignore case, none."""
    if not copy.samefile(kept) or copy.stat().st_nlink > 1:
        copy.unlink()


def is_photo(path: Path, sha256: str) -> bool:
    """Return whether a regular file, no link, has a content."""
    return not path.is_symlink() and path.is_file() and sha256_of(path) == sha256


def remove_drafts(paths: Iterable[Path]) -> None:
    """Remove what killed commands left beside some paths."""
    for folder in {path.parent for path in paths}:
        remove_stale_drafts(folder)


def remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder and those above it, up to `root`, that are empty."""
    for above in (folder, *folder.parents):
        if not above.is_relative_to(root):
            return
        try:
            above.rmdir()
        except FileNotFoundError:  # removed before the command was killed
            continue
        except OSError:
            return
