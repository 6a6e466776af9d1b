"""Cuts a listing of photos into shards, whose labels are one part each, named by the hash of their inputs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from retrain.errors import ExportError, UsageError
from retrain.inference.lines import ENDINGS
from retrain.inference.parts.photos import Photo
from retrain.storage import access
from retrain.storage.chunks import chunks, id_of
from retrain.storage.folders import Folder, RemoteFolder

PHOTOS = 1000  # consecutive ones of the listing, in a shard
RUN_DIGITS = 8
_ID_DIGITS = 16
_STAMPED_AT_ONCE = 32  # remote files, that were named in a list


@dataclass(frozen=True)
class Shard:
    """Consecutive photos of a listing, and the name of the file for their labels, which follows from all inputs."""

    part: str
    photos: Sequence[Photo]

    @property
    def name(self) -> str:
        """Return what people call it: its first and its last photo."""
        first, last = self.photos[0].path, self.photos[-1].path
        return str(first) if len(self.photos) == 1 else f"{first} to {last}"


def shards(photos: Iterable[Photo], run: str, form: str) -> Iterator[Shard]:
    """Yield the shards of a listing as it goes on.

    Args:
        photos: In the order in which they are labelled.
        run: `RUN_DIGITS` digits for all that the labels follow from beside the photos.
        form: One of `lines.ENDINGS`.
    """
    with ThreadPoolExecutor(_STAMPED_AT_ONCE) as threads:
        for number, some in enumerate(chunks(photos, PHOTOS)):
            stamped = _stamped(some, threads)
            digits = id_of(run, ((str(photo.path), photo.stamp) for photo in stamped))[:_ID_DIGITS]
            yield Shard(f"part-{number:06}-{run}-{digits}.{ENDINGS[form]}", stamped)


def parts_in(results: Folder, run: str, form: str) -> set[str]:
    """Return the names of the parts of a run that are in a folder.

    Raises:
        UsageError: There are parts of another run.
        ExportError: The folder cannot be read.
    """
    pattern = re.compile(rf"part-\d{{6,}}-([0-9a-f]{{{RUN_DIGITS}}})-[0-9a-f]{{{_ID_DIGITS}}}\.{ENDINGS[form]}")
    try:
        files = access.of(results).entries().files
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise ExportError(f"cannot read {results}: {error.strerror}. Give another --results.") from error
    matches = [match for file in files if (match := pattern.fullmatch(file.path))]
    other = next((match[0] for match in matches if match[1] != run), None)
    if other:
        raise UsageError(
            f"--results {results} has parts of another model, other photos or other flags ({other}). Give another "
            f"--results, or move them away."
        )
    return {match[0] for match in matches}


def remove(results: Folder, parts: Iterable[str]) -> None:
    """Remove parts whose photos have changed since."""
    for part in parts:
        access.of(results).remove(part)


def _stamped(photos: Sequence[Photo], threads: ThreadPoolExecutor) -> Sequence[Photo]:
    """Return photos with the stamps of their files, those of a list too; files that are gone have none."""
    remote = [photo for photo in photos if photo.stamp is None and isinstance(photo.path, RemoteFolder)]
    found = dict(zip(map(id, remote), threads.map(_stamp, remote), strict=True))
    return [photo if photo.stamp else found.get(id(photo)) or _stamp(photo) for photo in photos]


def _stamp(photo: Photo) -> Photo:
    path = photo.path
    if isinstance(path, RemoteFolder):
        return replace(photo, stamp=access.stamp_of(RemoteFolder(path.root), path.path))
    return replace(photo, stamp=access.stamp_of(path.parent, path.name))
