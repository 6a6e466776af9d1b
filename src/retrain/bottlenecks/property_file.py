"""The file of a store that holds what is known of photos beside their vectors: record i belongs to row i.

A record says by its checksum that it is whole, and that it belongs to the row and its vector. What is missing, as in
stores of earlier versions, or damaged, is measured again by who needs it.
"""

import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrain.data.properties import RECORD
from retrain.files import open_to_update, write_at

NAME = "properties.1"  # another number where the records are others
_STORED = np.dtype([("record", f"V{RECORD.itemsize}"), ("checksum", "<u4")])
_CHECKSUM = struct.Struct("<I")
_AT_ONCE = 2**14  # records that are read


class PropertyFile:
    """Records of `data.properties.RECORD` in a folder; its methods are for any thread."""

    def __init__(self, folder: Path) -> None:
        self.path, self._writing = folder / NAME, threading.Lock()

    def write(self, rows: Sequence[int], sums: Sequence[int], records: Sequence[bytes]) -> None:
        """Write the records of different rows, whose vectors have these checksums.

        Raises:
            OSError: The disk is full, or the file cannot be written.
        """
        stored = {
            row: record + _CHECKSUM.pack(_checksum(record, row, total))
            for row, total, record in zip(rows, sums, records, strict=True)
        }
        with self._writing, open_to_update(self.path) as file:
            run: list[bytes] = []
            for row in sorted(stored):
                run.append(stored[row])
                if row + 1 not in stored:
                    write_at(file, (row + 1 - len(run)) * _STORED.itemsize, b"".join(run))
                    run = []

    def read(self, rows: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Return the records [n] of rows int64 [n], whose vectors have the checksums uint32 [n]; zeros where missing.

        Raises:
            OSError: The file cannot be read.
        """
        found = np.zeros(len(rows), RECORD)
        count = self.path.stat().st_size // _STORED.itemsize if self.path.is_file() else 0
        stored = np.memmap(self.path, _STORED, "r", shape=(count,)) if count else np.zeros(0, _STORED)
        there = np.flatnonzero((rows >= 0) & (rows < count))
        for start in range(0, len(there), _AT_ONCE):
            places = there[start : start + _AT_ONCE]
            some = stored[rows[places]]
            records = some["record"].tolist()
            expected = list(map(_checksum, records, rows[places].tolist(), sums[places].tolist()))
            whole = some["checksum"] == np.array(expected, np.uint32)
            found[places[whole]] = np.ascontiguousarray(some["record"][whole]).view(RECORD)
        return found


def _checksum(record: bytes, row: int, total: int) -> int:
    """Return the checksum of a record that belongs to a row, whose vector has the checksum `total`."""
    return zlib.crc32(record, (row ^ total) & 0xFFFFFFFF)
