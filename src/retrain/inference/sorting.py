"""Puts images into folders named for their classes."""

import filecmp
import os
import shutil
from pathlib import Path

from retrain.errors import ExportError, UsageError
from retrain.files import sha256_of, temporary_sibling


def check(folder: Path, inputs: list[Path]) -> None:
    """Make the folder for sorted images; refuse one inside a folder to be labelled, whose copies the next run labels.

    Raises:
        ExportError: It cannot be made.
        UsageError: It lies in a folder that is labelled.
    """
    target = folder.resolve()
    for path in inputs:
        if path.is_dir() and target.is_relative_to(path.resolve()):
            raise UsageError(f"--sort_into {folder} lies in {path}, whose images are labelled. Name a folder outside.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot make {folder}: {error.strerror}. Give another --sort_into.") from error


def put(image: Path, label: str, folder: Path, *, link: bool) -> Path:
    """Return where an image is in the folder of its class, after copying it or making a symbolic link there.

    An image that is there already is left alone, so that a run can be repeated; of two images with one name, the
    second gets a part of its content's SHA-256 into its name. `folder` holds the folders of the classes.

    Raises:
        ExportError: The folder cannot be written.
    """
    place = folder / folder_name(label) / image.name
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
    draft = temporary_sibling(place)
    try:
        if link:
            draft.symlink_to(image.resolve())
        else:
            shutil.copy2(image, draft)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)
