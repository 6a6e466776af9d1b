"""Reads photos of a shard ahead of the threads that label them: remote ones, many at a time."""

import functools
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from retrain import workers
from retrain.data import image_files
from retrain.data.image_files import IMAGE_BYTES
from retrain.errors import StorageError, plural
from retrain.files import check_size
from retrain.inference.parts.photos import Photo
from retrain.inference.prediction import Read, ready
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder

_BATCH, _BATCH_BYTES = 64, 2**26
_BATCHES = 2  # on the way at the same time, and as many that wait
_Job = tuple[Folder, Read]


def read_ahead(photos: Sequence[Photo], home: Path) -> Iterator[_Job]:
    """Yield the path of each photo and what returns its content, or raises the `OSError` why it cannot be read.

    Args:
        photos: With their stamps.
        home: The folder that paths on this machine start from.

    Raises:
        StorageError: The storage of a remote photo does not answer.
    """
    if not any(isinstance(photo.path, RemoteFolder) for photo in photos):
        yield from _jobs(photos, home)
        return
    read = functools.partial(_jobs, home=home)
    for jobs in workers.map_in_order(lambda: read, _batches(photos), threads=_BATCHES, waiting=2 * _BATCHES):
        yield from jobs


def _batches(photos: Sequence[Photo]) -> Iterator[list[Photo]]:
    batch: list[Photo] = []
    room = _BATCH_BYTES
    for photo in photos:
        size = photo.stamp.size if photo.stamp else 0
        if batch and (len(batch) == _BATCH or size > room):
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(photo)
        room -= size
    if batch:
        yield batch


def _jobs(photos: Sequence[Photo], home: Path) -> list[_Job]:
    """Return the jobs of photos whose content is here by then, or on a disk of this machine."""
    jobs: list[_Job] = []
    for root, some in groupby(photos, lambda photo: photo.path.root if isinstance(photo.path, RemoteFolder) else ""):
        group = list(some)
        jobs += _fetch(root, group) if root else [(each.path, _reader(home, each.path)) for each in group]
    return jobs


def _reader(home: Path, path: Folder) -> Read:
    return functools.partial(image_files.read_image, home / path if isinstance(path, Path) else path)


def _fetch(root: str, photos: Sequence[Photo]) -> list[_Job]:
    """Return the jobs of photos of one server, read together, but for those that are too large.

    Raises:
        StorageError: One is not as long as it was listed: a part would say for good what is true for now.
    """
    contents: dict[Folder, bytes | OSError] = {}
    for photo in photos:
        try:
            check_size(photo.stamp.size if photo.stamp else 0, str(photo.path), IMAGE_BYTES)
        except OSError as error:
            contents[photo.path] = error
    rest = [photo.path for photo in photos if photo.path not in contents and isinstance(photo.path, RemoteFolder)]
    read = access.of(RemoteFolder(root)).read_many([path.path for path in rest])
    contents |= dict(zip(rest, read, strict=True))
    for photo in photos:
        content = contents[photo.path]
        if isinstance(content, bytes) and photo.stamp and len(content) != photo.stamp.size:
            raise StorageError(
                f"{photo.path}: {plural(len(content), 'byte')} came of {photo.stamp.size:,}. It has changed, or a "
                f"proxy answers for the server. Run again."
            )
    return [(photo.path, ready(contents[photo.path])) for photo in photos]
