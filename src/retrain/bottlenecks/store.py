"""Bottlenecks on disk, keyed by what produced them; knows vectors and files, never models.

A store is a folder of files. `vectors.f32` holds row i, float32 [D], at byte 4 D i; `checksums.u32` holds
its checksum at byte 4 i; `index.sqlite` maps the key of an image's content to its row, and records which file
(by size and times) had which content, so that an unchanged file need not be read again. Both arrays are mapped
into memory: a million vectors cost address space, not memory. `property_file.py` is a fourth file.

The index also says which checksum the row of a key, or of a file, has. So a row must prove that its bytes are whole,
and that it is the row that was meant: no flipped row number lends a photo another's vector.

Rows are reserved in a transaction, written, and only then entered into the index, so that a kill at any moment
loses what was in flight and nothing else, and two runs can fill one store at once.
"""

import errno
import itertools
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from retrain.bottlenecks import checksums, index_file
from retrain.bottlenecks.mapped import MappedVectors
from retrain.bottlenecks.property_file import PropertyFile
from retrain.errors import StoreError, plural
from retrain.files import check_regular, open_to_update, write_at
from retrain.storage.folders import Folder
from retrain.storage.stamps import Stamp

_NAMES_AT_ONCE = 50_000
_KEYS_AT_ONCE = 500  # SQLite takes 999 values in a query, or more
_RESERVED_AT_MOST = 2**22  # rows that runs may have reserved and not written: killed ones leave some
INDEX = "index.sqlite"  # in every store, and in no folder of the original's
KEY_BYTES = 16  # of the SHA-256: two of a billion images share them with a probability of 1e-21


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as the store last saw it: its row, or the reason why it has none, and the `decoder` that gave it."""

    stamp: Stamp
    row: int | None
    reason: str | None
    decoder: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One result for `Store.put`: a key and its vector (None if the store has it), or a reason.

    `name` is from `index_name`; `decoder` is what gave the reason. `properties` is a `data.properties.RECORD`, where
    the photo was decoded.
    """

    name: str
    stamp: Stamp
    key: bytes = b""
    vector: np.ndarray | None = None
    reason: str | None = None
    decoder: str | None = None
    properties: bytes | None = None


class DamagedVectorsError(StoreError):
    """Rows whose checksum does not match, int64 `rows`. They are misses: forget and compute them again."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(plural(len(rows), "damaged bottleneck"))
        self.rows = rows


def index_name(path: str, distortion: str = "") -> str:
    """Return the name of a photo, or of a distorted copy, in the index; no path holds the NUL between the two."""
    return f"{path}\0{distortion}" if distortion else path


class Store:
    """The bottlenecks of one backbone; a context manager. Its methods are for any thread.

    SQLite's connections are for one thread each: those of Python 3.12 and 3.13 give two threads wrong rows.
    """

    def __init__(self, folder: Path, *, dimension: int) -> None:
        """Open the store in `folder`, made if needed, of float32 vectors of `dimension`.

        One that may only be read is read, and what becomes known of files is kept in a copy of its index.

        Raises:
            StoreError: The folder or a file in it cannot be read.
        """
        self.folder = folder
        self.dimension = dimension
        self._vectors_path, self._checksums_path = folder / "vectors.f32", folder / "checksums.u32"
        self._properties = PropertyFile(folder)
        self._of_thread = threading.local()
        self._mapping, self._writing = threading.Lock(), threading.Lock()
        with ExitStack() as opened:
            with index_file.store_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._index_path = folder / INDEX
                arrays = self._vectors_path, self._checksums_path
                for path in (self._index_path, *arrays, self._properties.path):
                    if path.exists():
                        check_regular(path.stat(), path)
                self._files = []
                if _may_be_written(folder, self._index_path, *arrays):
                    self._files = [opened.enter_context(open_to_update(path)) for path in arrays]
                else:
                    scratch = Path(opened.enter_context(TemporaryDirectory(prefix="retrain_index_")))
                    self._index_path = index_file.copy_of(self._index_path, scratch)
                opened.enter_context(closing(self._index)).executescript(index_file.SCHEMA)
                self._ordered = index_file.whole_number(self._index.execute("SELECT first FROM ordered").fetchone())
                self._stored, self._sums = MappedVectors(arrays[0], 0, dimension), np.zeros(0, np.uint32)
                self._verified = np.zeros(0, bool)
                self._map()
                self._add_columns()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    @property
    def _index(self) -> sqlite3.Connection:
        """Return the calling thread's own connection, which is closed with the thread."""
        if not hasattr(self._of_thread, "owner"):
            self._of_thread.owner = index_file.Owner(index_file.connect(self._index_path))
        return self._of_thread.owner.index  # type: ignore[no-any-return]

    def lookup(self, folder: Folder, names: Iterable[str]) -> Iterator[FileRecord | None]:
        """Yield the record of each file of an image folder, None for those never seen, and those whose row is lost.

        The names are from `index_name`; the more sorted they are, the faster.
        """
        self._map()
        remaining = iter(names)
        while encoded := [os.fsencode(name) for name in itertools.islice(remaining, _NAMES_AT_ONCE)]:
            records = self._records(folder, encoded)
            there = [row[0] for row in records.values() if type(row[0]) is int and 0 <= row[0] < len(self._sums)]
            sums = dict(zip(there, self._sums[there].tolist(), strict=True))
            for name in encoded:
                if (record := records.get(name)) is None:
                    yield None
                    continue
                row, checksum, reason, decoder, size, modified, changed = record
                whole = row is None or (type(row) is int and row in sums and sums[row] == checksum)
                whole = whole and isinstance(reason, str | None)
                yield FileRecord(Stamp(size, modified, changed), row, reason, decoder) if whole else None

    def _add_columns(self) -> None:
        """Give an index of an earlier version the columns that it lacks; its rows have the checksums that they have."""
        with self._transaction():
            for table, column in index_file.COLUMNS:
                name = column.split()[0]
                if name not in [row[1] for row in self._index.execute(f"PRAGMA table_info({table})")]:
                    self._index.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
                    if name == "checksum":
                        self._index.create_function("checksum_of", 1, self._checksum_of)
                        self._index.execute(f"UPDATE {table} SET checksum = checksum_of(row)")

    def _checksum_of(self, row: Any) -> int | None:
        """Return the checksum in the files of what the index calls a row, None where there is no such row."""
        there = isinstance(row, int) and 0 <= row < len(self._sums)
        return int(self._sums[row]) if there else None

    def _records(self, folder: Folder, encoded: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
        with index_file.store_errors(self.folder):
            rows = self._index.execute(
                "SELECT name, row, checksum, reason, decoder, size, modified, changed FROM files"
                " WHERE folder = ? AND name BETWEEN ? AND ?",
                (self._folder_id(folder), min(encoded), max(encoded)),
            )
            return {row[0]: row[1:] for row in rows}

    def count(self, folder: Folder) -> int:
        """Return how many files of an image folder, and distorted copies of them, have a row, up to date or not."""
        query = "SELECT count(row) FROM files WHERE folder = (SELECT id FROM folders WHERE path = ?)"
        with index_file.store_errors(self.folder):
            return int(self._index.execute(query, (os.fsencode(str(folder.resolve())),)).fetchone()[0])

    def find(self, key: bytes) -> int | None:
        """Return the row of a key, None where the store has none, or has lost it."""
        with index_file.store_errors(self.folder):
            return self._find(key)[0]

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return which of some keys the store has, cut to `KEY_BYTES`."""
        with index_file.store_errors(self.folder):
            return set(self._find_all(keys))

    def _find(self, key: bytes) -> tuple[int | None, int | None]:
        """Return the row of a key and its checksum, None for both where the store has none."""
        return self._find_all([key]).get(key[:KEY_BYTES], (None, None))

    def _find_all(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return the row and the checksum of each key that the store has, cut to `KEY_BYTES`."""
        found: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = [key[:KEY_BYTES] for key in keys[start : start + _KEYS_AT_ONCE]]
            query = f"SELECT key, row, checksum FROM vectors WHERE key IN ({','.join('?' * len(some))})"
            for key, row, checksum in self._index.execute(query, some):
                if self._checksum_of(row) is None:  # perhaps written since
                    self._map()
                if checksum is not None and checksum == self._checksum_of(row):
                    found[key] = row, checksum
        return found

    def keys(self, rows: np.ndarray) -> list[bytes]:
        """Return the keys of rows int64 [n], `KEY_BYTES` each, in no order."""
        return list(self.keys_by_row(rows).values())

    def checksums(self, rows: np.ndarray) -> np.ndarray:
        """Return the checksums uint32 [n] of rows int64 [n], 0 for those that are not there."""
        if len(rows) and int(rows.max()) >= len(self._sums):
            self._map()
        sums, there = np.zeros(len(rows), np.uint32), (rows >= 0) & (rows < len(self._sums))
        sums[there] = self._sums[rows[there]]
        return sums

    def keys_by_row(self, rows: np.ndarray) -> dict[int, bytes]:
        """Return the key of each row int64 [n], `KEY_BYTES`; rows that are lost are left out."""
        query = "SELECT row, key FROM vectors WHERE row IN (SELECT value FROM json_each(?))"
        with index_file.store_errors(self.folder):
            pairs = self._index.execute(query, (json.dumps(rows.tolist()),)).fetchall()
        return {row: key for row, key in pairs if isinstance(key, bytes)}

    def merged(self, ids: Sequence[str]) -> set[str]:
        """Return which of some commits of workers `put` has stored."""
        query = "SELECT id FROM merged WHERE id IN (SELECT value FROM json_each(?))"
        with index_file.store_errors(self.folder):
            return {row[0] for row in self._index.execute(query, (json.dumps(list(ids)),))}

    def put(self, folder: Folder, entries: Sequence[Entry], *, commit: str | None = None) -> list[int | None]:
        """Store results and return the row of each entry, None for those that have a reason, or a lost key.

        With them, in one transaction, it is stored that they are those of a worker's `commit`, if any.

        Raises:
            StoreError: The disk is full, or the store cannot be written.
        """
        with index_file.store_errors(self.folder):
            new = [entry.vector for entry in entries if entry.vector is not None]
            written = self._write(np.stack(new).astype(np.float32, copy=False)) if new else []
            rows = self._enter(self._folder_id(folder), entries, written, commit)
            known = {
                row: e.properties for row, e in zip(rows, entries, strict=True) if row is not None and e.properties
            }
            if known and self._files:
                sums = dict(written)
                others = [row for row in known if row not in sums]
                if others:
                    sums |= dict(zip(others, self.checksums(np.array(others)).tolist(), strict=True))
                self._properties.write(list(known), [sums[row] for row in known], list(known.values()))
        return rows

    def put_properties(self, rows: np.ndarray, records: Sequence[bytes]) -> None:
        """Store what is known of the photos of rows int64 [n]: records of `data.properties.RECORD`.

        A store that may only be read stays as it is.

        Raises:
            StoreError: The disk is full, or the file cannot be written.
        """
        if len(rows) and self._files:
            with index_file.store_errors(self.folder):
                self._properties.write(rows.tolist(), self.checksums(rows).tolist(), records)

    def properties(self, rows: np.ndarray) -> np.ndarray:
        """Return what is known of the photos of rows int64 [n]: `data.properties.RECORD` [n], zeros where nothing is.

        Raises:
            StoreError: The file cannot be read.
        """
        with index_file.store_errors(self.folder):
            return self._properties.read(rows, self.checksums(rows))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of rows int64 [n] as float32 [n, D], each checked once against its checksum.

        Raises:
            DamagedVectorsError: Some do not match.
        """
        if not len(rows):
            return np.zeros((0, self.dimension), np.float32)
        if int(rows.max()) >= len(self._stored):
            self._map()
        missing = np.unique(rows[rows >= len(self._stored)])  # the file was cut short since
        if len(missing):
            raise DamagedVectorsError(missing)
        vectors = self._stored.read(rows)
        self._verify(rows, vectors)
        return vectors

    def forget(self, rows: np.ndarray) -> None:
        """Take the checksums of rows int64 [n] away: nothing in the index finds them, and they are computed again."""
        with index_file.store_errors(self.folder):
            count = self._checksums_path.stat().st_size // 4
            if count:
                sums = np.memmap(self._checksums_path, np.uint32, "r+", shape=(count,))
                sums[rows[rows < count]] = 0

    def rename(self, folder: Folder, names: Sequence[tuple[str, str]]) -> None:
        """Give the records of files of an image folder other names: pairs of an old and a new one."""
        with index_file.store_errors(self.folder), self._transaction():
            folder_id = self._folder_id(folder)
            pairs = [(os.fsencode(new), folder_id, os.fsencode(old)) for old, new in names]
            self._index.executemany("UPDATE OR REPLACE files SET name = ? WHERE folder = ? AND name = ?", pairs)

    def _map(self) -> None:
        """Map as many rows as both files hold now."""
        with self._mapping, index_file.store_errors(self.folder):
            sizes = self._vectors_path.stat().st_size, self._checksums_path.stat().st_size
            count = min(sizes[0] // (4 * self.dimension), sizes[1] // 4)
            if count == len(self._stored):
                return
            self._verified = np.concatenate([self._verified, np.zeros(max(0, count - len(self._verified)), bool)])
            if count:
                self._sums = np.asarray(np.memmap(self._checksums_path, np.uint32, "r", shape=(count,)))
                # The last, for its length is what other threads look at.
                self._stored = MappedVectors(self._vectors_path, count, self.dimension)

    def _verify(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        todo = np.flatnonzero(~self._verified[rows])
        if not len(todo):
            return
        # Adding up all vectors costs less than copying most of them.
        few = 2 * len(todo) < len(rows)
        sums = self._checksums(rows[todo], vectors[todo]) if few else self._checksums(rows, vectors)[todo]
        bad = sums != self._sums[rows[todo]]
        self._verified[rows[todo[~bad]]] = True
        if bad.any():
            raise DamagedVectorsError(np.unique(rows[todo[bad]]))

    def _checksums(self, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return the checksums uint32 [n] that vectors float32 [n, D] should have as these rows int64 [n]."""
        old = rows < self._ordered
        if not old.any():
            return checksums.of(vectors)
        return np.where(old, checksums.of_earlier_versions(vectors), checksums.of(vectors))

    def _reserve(self, count: int) -> int:
        """Return the first of `count` rows that no other writer will use."""
        with self._transaction():
            written = self._checksums_path.stat().st_size // 4  # a damaged counter costs no row
            counted = "UPDATE counter SET rows = MAX(CAST(rows AS INTEGER), ?) + ?"
            self._index.execute(counted, (written, count))
            first = index_file.whole_number(self._index.execute("SELECT rows FROM counter").fetchone()) - count
            if first > written + _RESERVED_AT_MOST:
                raise sqlite3.DatabaseError("its count of rows is damaged")
        return first

    def _write(self, vectors: np.ndarray) -> list[tuple[int, int]]:
        """Write vectors float32 [n, D] to rows of their own, and return each one's row and checksum."""
        if not self._files:
            raise OSError(errno.EROFS, "it may only be read, and lacks features of some photos")
        first, sums = self._reserve(len(vectors)), checksums.of(vectors)
        for file, data in zip(self._files, (vectors, sums[:, None]), strict=True):
            with self._writing:
                write_at(file, 4 * data.shape[1] * first, data.tobytes())
        return list(enumerate(sums.tolist(), first))

    def _enter(
        self, folder_id: int, entries: Sequence[Entry], written: Iterable[tuple[int, int]], commit: str | None
    ) -> list[int | None]:
        """Commit written rows with their checksums, and the records of files; return the row of each entry."""
        new = iter(written)
        rows: list[int | None] = []
        vectors, files = [], []
        with self._transaction():
            known: dict[bytes, tuple[int | None, int | None]] = {**self._find_all([entry.key for entry in entries])}
            for entry in entries:
                # Another run may have stored the same image meanwhile: its row is kept, ours is never read.
                key, mine = entry.key[:KEY_BYTES], None if entry.vector is None else next(new)
                row, checksum = known.get(key, (None, None))
                if mine and row is None:
                    row, checksum = known[key] = mine
                    vectors.append((key, *mine))
                rows.append(row)
                if row is None and entry.reason is None:
                    continue  # another run has found it damaged, and has forgotten it, meanwhile
                stamp = (entry.stamp.size, entry.stamp.modified, entry.stamp.changed)
                name = os.fsencode(entry.name)
                files.append((folder_id, name, *stamp, row, entry.reason, checksum, entry.decoder))
            self._index.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", vectors)
            self._index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", files)
            if commit is not None:
                self._index.execute("INSERT OR IGNORE INTO merged VALUES (?)", (commit,))
        return rows

    def _folder_id(self, folder: Folder) -> int:
        path = os.fsencode(str(folder.resolve()))
        hit = self._index.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
        if hit is None:
            self._index.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (path,))
            hit = self._index.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
        return int(hit[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._index.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._index.execute("COMMIT")
        except BaseException:
            if self._index.in_transaction:  # SQLite itself has undone one for which the disk had no room
                self._index.execute("ROLLBACK")
            raise


def _may_be_written(*paths: Path) -> bool:
    return all(os.access(path, os.W_OK) for path in paths if path.exists())
