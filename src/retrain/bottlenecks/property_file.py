"""The file of a store that holds what is known of photos beside their vectors: record i belongs to row i.

A record says by its checksum that it is whole, and that it belongs to the row and its vector. What is missing, as in
stores of earlier versions, or damaged, is measured again by who needs it.
"""

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrain.bottlenecks import checksums
from retrain.data import properties
from retrain.files import check_regular

NAME = "properties.1"  # another number where the records are others
_STORED = np.dtype([("record", f"V{properties.DTYPE.itemsize}"), ("checksum", "<u4")])
_ODD = np.uint32(0x9E3779B1)


class PropertyFile:
    """Records of `data.properties.DTYPE` in a folder; its methods are for any thread."""

    def __init__(self, folder: Path) -> None:
        self._path, self._writing = folder / NAME, threading.Lock()

    def write(self, rows: np.ndarray, sums: np.ndarray, records: Sequence[bytes]) -> None:
        """Write the records of rows int64 [n], whose vectors have the checksums uint32 [n].

        Raises:
            OSError: The disk is full, or the file cannot be written.
        """
        stored = np.zeros(len(rows), _STORED)
        stored["record"] = np.frombuffer(b"".join(records), _STORED["record"])
        stored["checksum"] = _checksums(stored, rows, sums)
        with self._writing:
            self._path.touch()
            check_regular(self._path.stat(), self._path)
            with self._path.open("r+b", buffering=0) as file:
                for first, data in _runs(rows, stored):
                    file.seek(_STORED.itemsize * first)
                    unwritten = memoryview(data)
                    while unwritten:  # an unbuffered file may write only a part
                        unwritten = unwritten[file.write(unwritten) :]

    def read(self, rows: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Return the records [n] of rows int64 [n], whose vectors have the checksums uint32 [n]; zeros where missing.

        Raises:
            OSError: The file cannot be read.
        """
        found = np.zeros(len(rows), properties.DTYPE)
        count = self._path.stat().st_size // _STORED.itemsize if self._path.is_file() else 0
        places = np.flatnonzero((rows >= 0) & (rows < count))
        if len(places):
            stored = np.memmap(self._path, _STORED, "r", shape=(count,))[rows[places]]
            whole = stored["checksum"] == _checksums(stored, rows[places], sums[places])
            found[places[whole]] = np.ascontiguousarray(stored["record"][whole]).view(properties.DTYPE)
        return found


def _checksums(stored: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the checksums uint32 [n] that records should have as those of rows, whose vectors have other checksums."""
    words = np.ascontiguousarray(stored["record"]).view(np.uint32).reshape(len(stored), -1)
    expected: np.ndarray = checksums.of(words) ^ (rows.astype(np.uint32) * _ODD) ^ sums
    return expected


def _runs(rows: np.ndarray, stored: np.ndarray) -> list[tuple[int, bytes]]:
    """Return records whose rows follow each other as the first row and their bytes."""
    order = np.argsort(rows, kind="stable")
    edges = np.flatnonzero(np.diff(rows[order]) != 1) + 1
    bounds = itertools.pairwise([0, *edges.tolist(), len(rows)])
    return [(int(rows[order[start]]), stored[order[start:stop]].tobytes()) for start, stop in bounds]
