"""Keeps what is shown of single photos for the next run: small values by keys, in one file, beside a store say.

The file is a cache and no more. One that is damaged, locked or on a disk that may only be read or is full costs the
work that it would have saved, and nothing else.
"""

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

NAME = "report.sqlite"  # of the file, unless it is given another
_MOST_BYTES = 2**26  # of all values in a file; the oldest leave it first
_LARGEST = 2**19  # of a value
_BUSY_SECONDS = 5
_AT_ONCE = 500  # SQLite's least limit of variables in a statement is 999
_SCHEMA = "CREATE TABLE IF NOT EXISTS kept (id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)"
_OUTGROWN = """
    DELETE FROM kept WHERE id IN (
        SELECT id FROM (SELECT id, sum(length(value)) OVER (ORDER BY id DESC) AS bytes FROM kept) WHERE bytes > ?
    )
"""
_CHECKSUM_BYTES = 4


class Kept:
    """The values in the file of a folder; what is added to it is written by `write`, all of it or nothing."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._path = folder / name
        self._new: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of the keys that have one."""
        found = {key: self._new[key] for key in keys if key in self._new}
        # A pipe of that name would be waited for.
        if self._path.is_file():
            with suppress(sqlite3.Error, OSError), closing(_open(self._path, "ro")) as file:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    rows = file.execute(f"SELECT key, value FROM kept WHERE key IN ({marks})", some)
                    found |= {key: value[_CHECKSUM_BYTES:] for key, value in rows if _is_whole(key, value)}
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Add values that were not found; large ones are not kept."""
        self._new |= {key: value for key, value in values.items() if len(value) <= _LARGEST}

    def through(self, keys: Sequence[bytes], make: Callable[[list[int]], Iterable[bytes | None]]) -> list[bytes | None]:
        """Return the value of each key: kept, or made, and then kept from now on.

        Args:
            keys: One or more values may have the same.
            make: Returns the values of the keys at some places, None for what there is none of.
        """
        found: dict[bytes, bytes] = self.get(keys)
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        todo = sorted(place for key, place in first.items() if key not in found)
        made = {keys[place]: value for place, value in zip(todo, make(todo) if todo else (), strict=True)}
        new = {key: value for key, value in made.items() if value is not None}
        self.put(new)
        return [found.get(key, new.get(key)) for key in keys]

    def write(self) -> None:
        """Write what was added, where that is possible."""
        if not self._new or (self._path.exists() and not self._path.is_file()):
            return
        try:
            self._write()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, full, or not to be written
                return
            with suppress(OSError, sqlite3.Error):  # damaged: afresh
                self._path.unlink(missing_ok=True)
                self._write()
        except OSError:
            return

    def _write(self) -> None:
        with closing(_open(self._path, "rwc")) as file:
            # A power cut may damage the file, and what is damaged is made again.
            file.execute("PRAGMA synchronous = OFF")
            with file:
                file.execute("BEGIN IMMEDIATE")
                file.execute(_SCHEMA)
                rows = [(key, _checksum(key, value) + value) for key, value in self._new.items()]
                file.executemany("INSERT OR REPLACE INTO kept (key, value) VALUES (?, ?)", rows)
                file.execute(_OUTGROWN, (_MOST_BYTES,))
        self._new = {}


def key_of(*parts: bytes) -> bytes:
    """Return a key of 16 bytes for some parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.digest()[:16]


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY_SECONDS)


def _checksum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES)


def _is_whole(key: object, value: object) -> bool:
    """Return whether a row of the file is as it was written; a damaged one may hold anything."""
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return False
    return value[:_CHECKSUM_BYTES] == _checksum(key, value[_CHECKSUM_BYTES:])
