"""Reads the bottlenecks of the original `retrain.py`: one text file of numbers for each photo."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from retrain.bottlenecks.store import INDEX
from retrain.files import read_regular
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder

_TEXT_BYTES = 2**24  # that a vector's file may have: a million numbers


@dataclass
class LegacyCache:
    """The text files of one network in `folder` that belong to photos of one image folder.

    `files` maps a photo's path below the image folder to its file; `dimension` is the count of numbers in the first
    readable one. `refused` has the photos whose files were read and not used, by reason; threads add to it.
    """

    folder: Path
    image_dir: Folder
    files: dict[str, Path]
    dimension: int
    refused: dict[str, set[str]] = field(default_factory=dict)

    def vector(self, path: str) -> np.ndarray | None:
        """Return a photo's vector, float32 [dimension]; None without a file that can be trusted."""
        file = self.files.get(path)
        if file is None:
            return None
        reason = "older than their photos"
        if _is_newer(file, self.image_dir, path):
            vector = _read(file)
            if vector is not None and len(vector) == self.dimension:
                return vector
            reason = "damaged"
        self.refused.setdefault(reason, set()).add(path)
        return None

    def without_files(self, reason: str) -> Self:
        """Return the cache with all of its files refused."""
        return replace(self, files={}, refused={reason: set(self.files)})


def find(bottleneck_dir: Path, image_dir: Folder, paths: Sequence[str], network: str) -> LegacyCache | None:
    """Return the original's text files for some photos, None where there are none.

    They are `<bottleneck_dir>/<class folder>/<photo's name>_<network>.txt`, and hold numbers with commas between. The
    network is the architecture's name or a TF-Hub handle.
    """
    if not _has_other_folders(bottleneck_dir):
        return None
    ending = "_" + re.sub(r"://|[/:\\]", "~", network) + ".txt"
    listed: dict[str, set[str]] = {}
    files = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in listed:
            listed[folder] = _names(bottleneck_dir / folder)
        if name + ending in listed[folder]:
            files[path] = bottleneck_dir / folder / (name + ending)
    vectors = (_read(file) for file in files.values())
    first = next((vector for vector in vectors if vector is not None), None)
    return LegacyCache(bottleneck_dir, image_dir, files, len(first)) if first is not None else None


def _is_newer(file: Path, image_dir: Folder, path: str) -> bool:
    """Return whether a file is newer than a photo, and than the moment when the photo came to its place."""
    photo = access.stamp_of(image_dir, path)
    try:
        ours = file.stat()
    except OSError:
        return False
    if photo is None or ours.st_mtime_ns < photo.modified:
        return False
    if isinstance(image_dir, RemoteFolder):  # the server's time is that when the photo came to its place
        return photo.modified > 0
    # Copied with its time, unpacked or moved, a photo looks older than it has been here.
    return max(ours.st_mtime_ns, ours.st_ctime_ns) >= photo.changed


def _has_other_folders(bottleneck_dir: Path) -> bool:
    """Return whether there are folders other than stores; without any, a million photos need not be looked up."""
    try:
        return any(folder.is_dir() and not (folder / INDEX).exists() for folder in bottleneck_dir.iterdir())
    except OSError:
        return False


def _names(folder: Path) -> set[str]:
    try:
        return {file.name for file in folder.iterdir()}
    except OSError:
        return set()


def _read(file: Path) -> np.ndarray | None:
    """Return the numbers in a file, float32 [n]; None if they are not all finite numbers."""
    try:
        vector = np.array(read_regular(file, _TEXT_BYTES).decode("ascii").split(","), np.float32)
    except (OSError, ValueError):  # not text, or not numbers
        return None
    return vector if np.isfinite(vector).all() else None
