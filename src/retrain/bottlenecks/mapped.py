"""Rows of a file of vectors, mapped into memory and read as the system reads them fastest: in one go, or apart.

Where a page of a mapped file is missing, Linux reads what lies around it, too, on some machines megabytes. Rows that
lie close together are then there before they are asked for. Rows that are drawn from millions would each cost a
thousand times what they hold: they are read through a mapping of their own, in which a missing page is read alone.
"""

import itertools
import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from retrain import workers

_CLOSE = 8  # rows are close together where these, on average, hold one that is wanted
_TRIED = 64  # rows that show whether the file is in memory
_IN_MEMORY = 25e-6  # seconds that such a row takes at most, or one of a part of the file that was never written
_THREADS = 4  # at most: each row that lies apart costs the system more than its copy
_CAN_ADVISE = all(hasattr(mmap, name) for name in ("MADV_RANDOM", "MADV_WILLNEED"))  # not so on Windows


class MappedVectors:
    """The rows of a file of float32 vectors; its methods are for any thread."""

    def __init__(self, path: Path, count: int, dimension: int) -> None:
        """Map the first `count` rows of vectors of `dimension`.

        Raises:
            OSError: The file cannot be read, or is shorter.
        """
        self._near: np.ndarray = np.zeros((0, dimension), np.float32)  # no empty file can be mapped
        self._mapping: mmap.mmap | None = None
        if count:
            self._near = np.memmap(path, np.float32, "r", shape=(count, dimension))
        self._apart = self._near
        if count and _CAN_ADVISE:
            with path.open("rb") as file:
                self._mapping = mmap.mmap(file.fileno(), 4 * dimension * count, access=mmap.ACCESS_READ)
            self._mapping.madvise(mmap.MADV_RANDOM)
            self._apart = np.frombuffer(self._mapping, np.float32).reshape(count, dimension)

    def __len__(self) -> int:
        return len(self._near)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors float32 [n, D] of rows int64 [n], one at least, each of which is there."""
        if self._mapping is None or int(rows.max()) - int(rows.min()) < _CLOSE * len(rows):
            return np.take(self._near, rows, axis=0)
        vectors = np.empty((len(rows), self._apart.shape[1]), np.float32)
        began = time.perf_counter()
        self._copy(rows[:_TRIED], vectors[:_TRIED])
        if time.perf_counter() - began > _IN_MEMORY * _TRIED:
            self._announce(rows[_TRIED:], self._mapping)
        threads = min(_THREADS, workers.cores())
        edges = np.linspace(_TRIED, max(_TRIED, len(rows)), threads + 1).astype(int).tolist()
        parts = [slice(*pair) for pair in itertools.pairwise(edges)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: self._copy(rows[part], vectors[part]), parts))
        return vectors

    def _copy(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(self._apart, rows, axis=0, out=out, mode="clip")  # "raise" would copy all of them once more

    def _announce(self, rows: np.ndarray, mapping: mmap.mmap) -> None:
        """Have the system read rows from the disk, many at a time: one after another, they take five times as long."""
        size = 4 * self._apart.shape[1]
        for start in (size * rows).tolist():
            page = start - start % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, page, start + size - page)
