"""Puts images into folders named for their classes."""

import filecmp
import glob
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from retrain.errors import ExportError, UsageError
from retrain.files import aside, remove_stale_drafts, sha256_of


def check(folder: Path, inputs: Sequence[str]) -> None:
    """Make the folder for sorted images; refuse one whose copies the next run of the same inputs would label.

    Args:
        folder: The folder.
        inputs: Files, folders and patterns, as they are given to `label_image`.

    Raises:
        ExportError: It cannot be made.
        UsageError: It lies in a folder that is labelled.
    """
    target = folder.resolve()
    for word in inputs:
        if _names(word, target):
            raise UsageError(f"--sort_into {folder} lies in {word}, whose images are labelled. Name a folder outside.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot make {folder}: {error.strerror}. Give another --sort_into.") from error


def _names(word: str, target: Path) -> bool:
    """Return whether a file, folder or pattern names images in the folders of `target`, or may once they are there."""
    path = Path(word)
    if path.exists() or not glob.has_magic(word):
        return target.is_relative_to(path.resolve())
    parts = path.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    pattern = (*Path(*parts[:fixed]).resolve().parts, *parts[fixed:])
    images = (*target.parts, None, None)  # any image in the folder of any class
    folders = images[:-1] if "." not in pattern[-1] else target.parts
    return _matches(pattern, images) or any(_matches(pattern, folders[: n + 1]) for n in range(len(folders)))


def _matches(pattern: Sequence[str], path: Sequence[str | None]) -> bool:
    if not pattern or (not path and pattern[0] != "**"):
        return not pattern and not path
    if pattern[0] == "**":
        return _matches(pattern[1:], path) or (len(path) > 0 and _matches(pattern, path[1:]))
    return (path[0] is None or fnmatchcase(path[0], pattern[0])) and _matches(pattern[1:], path[1:])


def class_folders(labels: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return a folder below `folder` for each class, without the drafts that a killed run left there.

    Names that differ only in what no folder's name may hold get a part of the label's SHA-256 into their folder's.
    """
    names = {label: folder_name(label) for label in labels}
    counts = Counter(names.values())
    for label, name in names.items():
        if counts[name] > 1 and name != label:
            digest = hashlib.sha256(label.encode("utf-8", "surrogateescape")).hexdigest()
            names[label] = f"{name}_{digest[:8]}"
    for name in names.values():
        remove_stale_drafts(folder / name)
    return {label: folder / name for label, name in names.items()}


def put(image: Path, folder: Path, *, link: bool) -> Path:
    """Return where an image is in the folder of its class, after copying it or making a symbolic link there.

    An image that is there already is left alone, so that a run can be repeated; of two images with one name, the
    second gets a part of its content's SHA-256 into its name.

    Raises:
        ExportError: The folder cannot be written.
    """
    place = folder / image.name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if _is_another(place, image):
            place = place.with_name(f"{image.stem}_{sha256_of(image)[:12]}{image.suffix}")
        if not os.path.lexists(place):
            _write(image, place, link=link)
    except OSError as error:
        raise ExportError(f"cannot write {place}: {error.strerror}. Give another --sort_into.") from error
    return place


def folder_name(label: str) -> str:
    """Return a class name as the name of one visible folder, safe for names from any model."""
    name = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in label).strip()
    return f"_{name}" if name.startswith(".") or not name else name


def _is_another(place: Path, image: Path) -> bool:
    if not os.path.lexists(place):
        return False
    return not place.exists() or not (place.samefile(image) or filecmp.cmp(place, image, shallow=False))


def _write(image: Path, place: Path, *, link: bool) -> None:
    draft = aside(place)
    try:
        if link:
            draft.symlink_to(image.resolve())
        else:
            shutil.copy2(image, draft)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)
