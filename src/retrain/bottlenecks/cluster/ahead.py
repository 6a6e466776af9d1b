"""Reads photos ahead of the threads that decode them."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self

from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import Photo, Stopwatch
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.stamps import Stamp

AT_ONCE = 32  # photos in a batch
_BYTES = 64 * 2**20  # of a batch, about: large photos come in smaller batches
AHEAD = 2  # batches, beside the one that is taken from


class ReadingAhead:
    """Photos of a folder, asked for by path, once each and about in the order in which they were given.

    A context manager with threads of its own, whose seconds of reading `stopwatch` gets. Batches of a remote folder are
    read at the same time, for most of that is waiting: a worker would else read 32 photos in each answering time.
    """

    def __init__(self, folder: Folder, stamps: dict[str, Stamp | None], stopwatch: Stopwatch) -> None:
        """Begin to read; `stamps` has those of the photos' files as they were listed, None for files that are gone."""
        self._folder, self._stamps, self._stopwatch = folder, stamps, stopwatch
        self._batches = _batches(stamps)
        self._number = {path: number for number, batch in enumerate(self._batches) for path in batch}
        self._reads: list[Future[dict[str, Photo]]] = []
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(1 + AHEAD if isinstance(folder, RemoteFolder) else 1)
        self._read_until(AHEAD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._readers.shutdown(cancel_futures=True)

    def __call__(self, path: str) -> Photo:
        """Return a photo, once.

        Raises:
            StorageError: The storage does not answer.
        """
        number = self._number[path]
        self._read_until(number + AHEAD)
        return self._reads[number].result().pop(path)

    def _read_until(self, number: int) -> None:
        with self._lock:
            for batch in self._batches[len(self._reads) : number + 1]:
                self._reads.append(self._readers.submit(partial(self._read, batch)))

    def _read(self, paths: Sequence[str]) -> dict[str, Photo]:
        with self._stopwatch.measure("reading"):
            photos = self._read_together(paths) if isinstance(self._folder, RemoteFolder) else {}
            return {path: photos.get(path) or computing.read_photo(self._folder, path) for path in paths}

    def _read_together(self, paths: Sequence[str]) -> dict[str, Photo]:
        """Return photos of a remote folder as its listing saw them; large files, films say, are left out."""
        stamped = [(path, stamp) for path in paths if (stamp := self._stamps[path]) and stamp.size < _BYTES]
        contents = access.of(self._folder).read_many([path for path, _ in stamped])
        return {
            path: computing.photo_of(stamp, content)
            if isinstance(content, bytes)
            else computing.unreadable(stamp, content)
            for (path, stamp), content in zip(stamped, contents, strict=True)
        }


def _batches(stamps: dict[str, Stamp | None]) -> list[list[str]]:
    batches: list[list[str]] = []
    size = 0
    for path, stamp in stamps.items():
        length = stamp.size if stamp else 0
        if not batches or len(batches[-1]) == AT_ONCE or size + length > _BYTES:
            batches.append([])
            size = 0
        batches[-1].append(path)
        size += length
    return batches
