"""Bottlenecks on disk, keyed by what produced them; knows vectors and files, never models.

A store is a folder of three files. `vectors.f32` holds row i, float32 [D], at byte 4 D i; `checksums.u32` holds
its checksum at byte 4 i; `index.sqlite` maps the key of an image's content to its row, and records which file
(by size and times) had which content, so that an unchanged file need not be read again. Both arrays are mapped
into memory: a million vectors cost address space, not memory.

Rows are reserved in a transaction, written, and only then entered into the index, so that a kill at any moment
loses what was in flight and nothing else, and two runs can fill one store at once.
"""

import io
import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrain.errors import StoreError, plural

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL);
    CREATE TABLE IF NOT EXISTS files (
        folder INTEGER, name BLOB, size INTEGER, modified INTEGER, changed INTEGER, row INTEGER, reason TEXT,
        PRIMARY KEY (folder, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 0), rows INTEGER NOT NULL);
    INSERT OR IGNORE INTO counter VALUES (0, 0);
"""
_NAMES_AT_ONCE = 50_000
_BUSY_SECONDS = 60
_CHECKSUM_OF_ZEROS = 0x5EED0F00  # a row that was never written must not look whole
KEY_BYTES = 16  # of the SHA-256: two of a billion images share them with a probability of 1e-21


@dataclass(frozen=True, slots=True)
class Stamp:
    """What identifies an unchanged file without reading it: its bytes, and the times of content and inode in ns."""

    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp in the result of a stat call."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as the store last saw it: its row, or the reason why it has none."""

    stamp: Stamp
    row: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One result for `Store.put`: a key and its vector (None if the store has it), or a reason.

    `name` is from `index_name`.
    """

    name: str
    stamp: Stamp
    key: bytes = b""
    vector: np.ndarray | None = None
    reason: str | None = None


class DamagedVectorsError(StoreError):
    """Rows whose checksum does not match, int64 `rows`. They are misses: forget and compute them again."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(plural(len(rows), "damaged bottleneck"))
        self.rows = rows


def index_name(path: str, distortion: str = "") -> str:
    """Return the name of a photo, or of a distorted copy, in the index; no path holds the NUL between the two."""
    return f"{path}\0{distortion}" if distortion else path


class Store:
    """The bottlenecks of one backbone; a context manager. Its methods are for one thread, `find` for any."""

    def __init__(self, folder: Path, *, dimension: int) -> None:
        """Open the store in `folder`, made if needed, of float32 vectors of `dimension`.

        Raises:
            StoreError: The folder or a file in it cannot be read or written.
        """
        self.folder = folder
        self.dimension = dimension
        self._vectors_path, self._checksums_path = folder / "vectors.f32", folder / "checksums.u32"
        with ExitStack() as opened:
            with _store_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._index = opened.enter_context(closing(_connect(folder / "index.sqlite")))
                self._index.executescript(_SCHEMA)
                self._finder = opened.enter_context(closing(_connect(folder / "index.sqlite")))
                self._vectors_file = opened.enter_context(_open_to_update(self._vectors_path))
                self._checksums_file = opened.enter_context(_open_to_update(self._checksums_path))
            self._opened = opened.pop_all()
        self._stored, self._sums = np.zeros((0, dimension), np.float32), np.zeros(0, np.uint32)
        self._verified = np.zeros(0, bool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def lookup(self, folder: Path, names: Iterable[str]) -> Iterator[FileRecord | None]:
        """Yield the record of each file of an image folder, None for those that the store has never seen.

        The names are from `index_name`; the more sorted they are, the faster.
        """
        remaining = iter(names)
        while encoded := [os.fsencode(name) for name in itertools.islice(remaining, _NAMES_AT_ONCE)]:
            records = self._records(folder, encoded)
            for name in encoded:
                row = records.get(name)
                yield FileRecord(Stamp(*row[:3]), row[3], row[4]) if row else None

    def _records(self, folder: Path, encoded: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
        with _store_errors(self.folder):
            rows = self._index.execute(
                "SELECT name, size, modified, changed, row, reason FROM files"
                " WHERE folder = ? AND name BETWEEN ? AND ?",
                (self._folder_id(folder), min(encoded), max(encoded)),
            )
            return {row[0]: row[1:] for row in rows}

    def find(self, key: bytes) -> int | None:
        """Return the row of a key, None where the store has none."""
        # The connection is serialised by SQLite itself.
        with _store_errors(self.folder):
            return _row_of(key, self._finder)

    def put(self, folder: Path, entries: Sequence[Entry]) -> list[int | None]:
        """Store results and return the row of each entry, None for those that only have a reason.

        Raises:
            StoreError: The disk is full, or the store cannot be written.
        """
        with _store_errors(self.folder):
            new = [entry.vector for entry in entries if entry.vector is not None]
            first = self._reserve(len(new)) if new else 0
            if new:
                self._write(first, np.stack(new).astype(np.float32, copy=False))
            return self._enter(self._folder_id(folder), entries, first)

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
        vectors: np.ndarray = np.take(self._stored, rows, axis=0)
        self._verify(rows, vectors)
        return vectors

    def forget(self, rows: np.ndarray) -> None:
        """Drop rows from the index, so that their images are computed again."""
        with _store_errors(self.folder), self._transaction():
            for row in rows.tolist():
                self._index.execute("DELETE FROM vectors WHERE row = ?", (row,))
                self._index.execute("DELETE FROM files WHERE row = ?", (row,))

    def rename(self, folder: Path, names: Sequence[tuple[str, str]]) -> None:
        """Give the records of files of an image folder other names: pairs of an old and a new one."""
        with _store_errors(self.folder), self._transaction():
            folder_id = self._folder_id(folder)
            pairs = [(os.fsencode(new), folder_id, os.fsencode(old)) for old, new in names]
            self._index.executemany("UPDATE OR REPLACE files SET name = ? WHERE folder = ? AND name = ?", pairs)

    def _map(self) -> None:
        """Map as many rows as both files hold now."""
        count = min(self._vectors_path.stat().st_size // (4 * self.dimension), self._checksums_path.stat().st_size // 4)
        if count:
            self._stored = np.memmap(self._vectors_path, np.float32, "r", shape=(count, self.dimension))
            self._sums = np.memmap(self._checksums_path, np.uint32, "r", shape=(count,))
        self._verified = np.concatenate([self._verified, np.zeros(max(0, count - len(self._verified)), bool)])

    def _verify(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        todo = np.flatnonzero(~self._verified[rows])
        if not len(todo):
            return
        bad = _checksums(vectors[todo] if len(todo) < len(rows) else vectors) != self._sums[rows[todo]]
        self._verified[rows[todo[~bad]]] = True
        if bad.any():
            raise DamagedVectorsError(np.unique(rows[todo[bad]]))

    def _reserve(self, count: int) -> int:
        """Return the first of `count` rows that no other writer will use."""
        with self._transaction():
            self._index.execute("UPDATE counter SET rows = rows + ?", (count,))
            (end,) = self._index.execute("SELECT rows FROM counter").fetchone()
        return int(end) - count

    def _write(self, first: int, vectors: np.ndarray) -> None:
        for file, data in ((self._vectors_file, vectors), (self._checksums_file, _checksums(vectors)[:, None])):
            file.seek(4 * data.shape[1] * first)
            unwritten = memoryview(data.tobytes())
            while unwritten:  # an unbuffered file may write only a part
                unwritten = unwritten[file.write(unwritten) :]

    def _enter(self, folder_id: int, entries: Sequence[Entry], row: int) -> list[int | None]:
        """Commit written rows, which begin at `row`, and the records of their files; return the row of each entry."""
        rows: list[int | None] = []
        with self._transaction():
            for entry in entries:
                if entry.vector is not None:
                    # Another run may have stored the same image meanwhile: its row is kept, ours is never read.
                    self._index.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?)", (entry.key[:KEY_BYTES], row))
                    row += 1
                rows.append(None if entry.reason is not None else _row_of(entry.key, self._index))
                stamp = (entry.stamp.size, entry.stamp.modified, entry.stamp.changed)
                self._index.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (folder_id, os.fsencode(entry.name), *stamp, rows[-1], entry.reason),
                )
        return rows

    def _folder_id(self, folder: Path) -> int:
        path = os.fsencode(folder.resolve())
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
        except BaseException:
            self._index.execute("ROLLBACK")
            raise
        self._index.execute("COMMIT")


def _row_of(key: bytes, index: sqlite3.Connection) -> int | None:
    hit = index.execute("SELECT row FROM vectors WHERE key = ?", (key[:KEY_BYTES],)).fetchone()
    return None if hit is None else int(hit[0])


def _checksums(vectors: np.ndarray) -> np.ndarray:
    """Return uint32 [n], the sum of the 32-bit words of each vector float32 [n, D], not 0 for zeros.

    It finds torn, lost and overwritten rows as surely as a CRC, at fourteen times the speed: a training on a
    million bottlenecks reads gigabytes of them.
    """
    sums: np.ndarray = np.add.reduce(vectors.view(np.uint32), axis=1, dtype=np.uint32)
    sums += np.uint32(_CHECKSUM_OF_ZEROS)
    return sums


def _open_to_update(path: Path) -> io.FileIO:
    path.touch()
    return path.open("r+b", buffering=0)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    # Commits survive a kill; a power cut may undo the last ones, whose images are then computed again.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into one line about the folder."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"cannot use the bottleneck folder {folder}: {reason}. Check its permissions and the free disk space, "
            f"delete it to start afresh, or choose another --bottleneck_dir."
        ) from error
