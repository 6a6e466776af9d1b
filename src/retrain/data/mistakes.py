"""Says in one line what is probably meant where an image folder cannot be used as it is, and what to type instead."""

import difflib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from retrain.data import layout
from retrain.data.image_files import EXTENSIONS, has_image_name, is_image
from retrain.data.layout import Place, quoted
from retrain.errors import DatasetError, shell_quoted
from retrain.storage.folders import Folder, RemoteFolder

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_OTHER_ARCHIVES = (".rar", ".7z")
_DEEPEST = 4  # folders in a folder in a folder that are looked into
_LEFT_BY_ARCHIVES = ("__MACOSX",)  # beside what an archive from a Mac holds


def no_folder(path: Folder) -> DatasetError:
    """Return the error for an image folder that is none."""
    problem = f"no such image folder: {path}"
    if isinstance(path, RemoteFolder):
        return DatasetError(f"{problem}, or nothing is in it. Give a folder that holds one sub-folder per class.")
    if path.is_file():
        if unpack := _how_to_unpack(path):
            return DatasetError(f"{problem} is an archive, and a folder is read. {unpack}")
        if has_image_name(path.name) or is_image(path):
            question = f"label_image {shell_quoted(str(path))} says what is in it"
            return DatasetError(f"{problem} is one image. Give the folder above its class folder; {question}.")
        return DatasetError(f"{problem} is a file. Give a folder that holds one sub-folder per class.")
    near = _folders_called_like(path)
    hint = f"Did you mean {' or '.join(near)}?" if near else "Give a folder that holds one sub-folder per class."
    return DatasetError(f"{problem}. {hint}")


def too_few_classes(folder: Place, names: Collection[str], *, least: int, notes: Collection[str]) -> DatasetError:
    """Return the error for a folder with fewer class folders than `least`; `notes` say what was left out."""
    count = f"only one class folder with images, {quoted(list(names))}" if names else "no class folder with images"
    needed = f"; training needs at least {least}" if least > 1 else ""
    problem = f"{folder} has {count}{needed}."
    if inner := _folder_of_classes_inside(folder, least):
        classes = layout.class_folders(inner)
        return DatasetError(
            f"{problem} Its folder {inner} has {len(classes)}, {quoted(classes)}: if these are the classes, give that "
            f"folder."
        )
    if isinstance(folder, Path) and not names:
        above = folder.parent if folder.name else folder / ".."
        if _is_class_itself(folder, above, least):
            return DatasetError(f"{problem} It looks like one of the classes in {above}: give that folder.")
    return DatasetError(
        f"{problem} Make one sub-folder per class and put its photos ({', '.join(EXTENSIONS)}) inside. "
        f"{' '.join(notes)}".rstrip()
    )


def _how_to_unpack(path: Path) -> str | None:
    """Return what to do with an archive, by its name: a command that works on this system; None for other files."""
    name = path.name.lower()
    ending = next((end for end in (".zip", *_TARS, *_OTHER_ARCHIVES) if name.endswith(end)), None)
    if ending is None:
        return None
    folder = path.with_name(path.name[: -len(ending)] or "photos")
    archive, target = shell_quoted(str(path)), shell_quoted(str(folder))
    if ending in _OTHER_ARCHIVES:
        return f"Unpack it, and give the folder: {target}"
    tool = "zipfile" if ending == ".zip" else "tarfile"
    command = f"{'python' if os.name == 'nt' else 'python3'} -m {tool} -e {archive} {target}"
    if ending == ".zip" and shutil.which("unzip"):
        command = f"unzip -q {archive} -d {target}"
    return f"Unpack it first: {command} (then give {target})"


def _folders_called_like(path: Path) -> list[str]:
    """Return the folders beside a path that does not exist whose names are most like its own."""
    try:
        beside = layout.folders(path.parent)
    except DatasetError:
        return []
    names = {name.casefold(): name for name in beside}
    near = difflib.get_close_matches(path.name.casefold(), names, n=2, cutoff=0.7)
    return [str(path.with_name(names[name])) for name in near]


def _folder_of_classes_inside(folder: Place, least: int) -> Place | None:
    """Return the folder below a folder, always its only one, that holds class folders or a split; None without any."""
    inner = folder
    for _ in range(_DEEPEST):
        names = [name for name in layout.folders(inner) if name not in _LEFT_BY_ARCHIVES]
        if len(names) != 1:
            return None
        inner = inner / names[0]
        if len(layout.class_folders(inner)) >= max(2, least):
            return inner
    return None


def _is_class_itself(folder: Path, above: Path, least: int) -> bool:
    """Return whether a folder holds photos itself, and others in the folder above do, too."""
    if not any(has_image_name(name) for name in layout.files(folder)):
        return False
    try:
        return len(layout.class_folders(above)) >= max(2, least)
    except DatasetError:
        return False
