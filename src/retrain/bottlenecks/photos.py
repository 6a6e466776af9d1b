"""Reads photos: one file on this machine where it is needed, and those of a remote folder ahead, many at a time.

From object storage one photo takes a round trip of 20 to 100 ms. So two threads keep batches on the way, and all photos
of a batch are read at the same time; what has arrived and waits is bounded in photos and in bytes.
"""

import errno
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from retrain import workers
from retrain.data import decoding
from retrain.data.image_files import IMAGE_BYTES, MAGIC_BYTES, has_image_magic, has_image_name
from retrain.errors import ImageError
from retrain.files import check_size, open_regular, read_opened
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.stamps import Stamp

UNREADABLE = (OSError, ImageError, MemoryError)
NO_STAMP = Stamp(-1, -1, -1)  # no file has it: whatever it is recorded with is looked at again by the next run
_READ_AT_ONCE = 2**20
_BATCH, _BATCH_BYTES = 128, 2**26  # of a remote folder
_READERS = 16
_BATCHES = 2  # on the way at the same time, and as many that wait
# Enters the keys of photos that version 0.1 decoded otherwise, and the names of files that may be such photos.
SECOND_DECODING = "\0decoding 2"
_Job = TypeVar("_Job")
_Stamped = tuple[str, Stamp | None]  # the path of a file and its stamp, None where there is none


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file: its size and times, its bytes and their SHA-256; or the reason why it cannot be used.

    Of a photo that version 0.1 decoded otherwise, `content` is another hash, and `earlier` the SHA-256.
    """

    stamp: Stamp
    data: bytes = b""
    content: bytes = b""
    earlier: bytes | None = None
    reason: str | None = None


def key_of(content: bytes, distortion: str) -> bytes:
    """Return the key in a store of a distorted copy of a photo, or of the photo itself for ""."""
    return hashlib.sha256(content + distortion.encode()).digest() if distortion else content


def read_photo(folder: Folder, path: str) -> Photo:
    """Return a photo's file, or why it cannot be read.

    Raises:
        StorageError: The storage of a remote folder does not answer.
    """
    if isinstance(folder, RemoteFolder):
        return _fetch(folder, [(path, access.stamp_of(folder, path))])[0]()
    stamp = NO_STAMP
    try:
        with open_regular(f"{folder}/{path}") as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            return photo_of(stamp, _read(file, path))
    except UNREADABLE as error:
        return rejected(stamp, error)


def reading_threads(folder: Folder) -> int:
    """Return how many threads read and decode single photos of a folder: a remote one keeps most of them waiting."""
    return max(workers.cores(), _READERS) if isinstance(folder, RemoteFolder) else workers.cores()


def photo_of(stamp: Stamp, data: bytes) -> Photo:
    """Return the photo with this content; of a file that is no image, a film say, its beginning is enough."""
    if not has_image_magic(data[:MAGIC_BYTES]):
        data = data[:_READ_AT_ONCE]
    content = hashlib.sha256(data).digest()
    if not decoding.is_decoded_otherwise(data):
        return Photo(stamp, data, content)
    return Photo(stamp, data, key_of(content, SECOND_DECODING), earlier=content)


def rejected(stamp: Stamp, error: BaseException) -> Photo:
    """Return what stands for a photo that cannot be read, which the next run looks at again if that may change."""
    return Photo(stamp if will_happen_again(error) else NO_STAMP, reason=reason_of(error))


def read_ahead(
    folder: Folder,
    jobs: Iterable[tuple[_Job, str]],
    measure: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[tuple[_Job, Callable[[], Photo]]]:
    """Yield each job with what returns the photo at its path: read by then on this machine, on its way in others.

    Reading from others takes place in what `measure` returns.

    Raises:
        StorageError: The storage of a remote folder does not answer.
    """
    if not isinstance(folder, RemoteFolder):
        yield from ((job, functools.partial(read_photo, folder, path)) for job, path in jobs)
        return

    def read(batch: list[tuple[_Job, _Stamped]]) -> list[tuple[_Job, Callable[[], Photo]]]:
        with measure():
            photos = _fetch(folder, [stamped for _, stamped in batch])
        return [(job, photo) for (job, _), photo in zip(batch, photos, strict=True)]

    batches = _batches(folder, jobs)
    for batch in workers.map_in_order(lambda: read, batches, threads=_BATCHES, waiting=2 * _BATCHES):
        yield from batch


def _batches(folder: RemoteFolder, jobs: Iterable[tuple[_Job, str]]) -> Iterator[list[tuple[_Job, _Stamped]]]:
    batch: list[tuple[_Job, _Stamped]] = []
    held = 0
    for job, path in jobs:
        stamp = access.stamp_of(folder, path)
        size = stamp.size if stamp else 0
        if batch and (held + size > _BATCH_BYTES or len(batch) == _BATCH):
            yield batch
            batch, held = [], 0
        batch.append((job, (path, stamp)))
        held += size
    if batch:
        yield batch


def _fetch(folder: RemoteFolder, files: Sequence[_Stamped]) -> list[Callable[[], Photo]]:
    """Return what makes the photo of each file, whose bytes are here: to hash them is for the thread that needs it."""
    contents: dict[int, bytes | OSError] = {}
    for number, (path, stamp) in enumerate(files):
        if stamp is None:
            contents[number] = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        elif beginning := _beginning_of_large(folder, path, stamp.size):
            contents[number] = beginning
    rest = [number for number in range(len(files)) if number not in contents]
    read = access.of(folder).read_many([files[number][0] for number in rest]) if rest else []
    contents |= dict(zip(rest, read, strict=True))
    return [
        functools.partial(_photo_or_reason, stamp or NO_STAMP, contents[number])
        for number, (_, stamp) in enumerate(files)
    ]


def _beginning_of_large(folder: RemoteFolder, path: str, size: int) -> bytes | OSError | None:
    """Return the beginning of a large file that is no image, or why an image is too large; None for what to read."""
    try:
        check_size(size, path, IMAGE_BYTES)
        if size <= _READ_AT_ONCE or has_image_name(path):
            return None
        too_large: OSError | None = None
    except OSError as error:
        too_large = error
    try:
        start = access.of(folder).head(path, _READ_AT_ONCE)
    except OSError as error:
        return error
    return too_large if has_image_magic(start[:MAGIC_BYTES]) else start


def _photo_or_reason(stamp: Stamp, content: bytes | OSError) -> Photo:
    """Return a photo; of content that is not what was listed, a proxy's page of errors say, nothing is to be kept."""
    if not isinstance(content, bytes):
        return rejected(stamp, content)
    is_listed = len(content) in (stamp.size, min(stamp.size, _READ_AT_ONCE))
    return photo_of(stamp if is_listed else NO_STAMP, content)


def reason_of(error: BaseException) -> str:
    """Return why a photo cannot be used, for a message."""
    return getattr(error, "strerror", None) or str(error) or "not enough memory to read it"


def will_happen_again(error: BaseException) -> bool:
    """Return whether a file itself cannot be used; not so a lack of memory or file handles, or a failing disk."""
    ours = isinstance(error.__cause__, MemoryError) or getattr(error.__cause__, "errno", None) is not None
    return isinstance(error, ImageError) and not ours


def _read(file: io.FileIO, path: str) -> bytes:
    """Return the content of an open file; of one that is no image, a film say, only its beginning."""
    start = file.read(_READ_AT_ONCE) or b""
    return start + read_opened(file, path, IMAGE_BYTES) if has_image_magic(start[:MAGIC_BYTES]) else start
