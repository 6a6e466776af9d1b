"""The index of a store: SQLite's file, its tables, and what may be wrong with it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from retrain.errors import StoreError

SCHEMA = """
    CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL);
    CREATE TABLE IF NOT EXISTS files (
        folder INTEGER, name BLOB, size INTEGER, modified INTEGER, changed INTEGER, row INTEGER, reason TEXT,
        PRIMARY KEY (folder, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS merged (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 0), rows INTEGER NOT NULL);
    INSERT OR IGNORE INTO counter VALUES (0, 0);
    CREATE TABLE IF NOT EXISTS ordered (id INTEGER PRIMARY KEY CHECK (id = 0), first INTEGER NOT NULL);
    INSERT OR IGNORE INTO ordered SELECT 0, rows FROM counter;
"""
# Columns that came later. Rows before `ordered.first` are older, and have checksums that no order of words changes.
COLUMNS = ("vectors", "checksum INTEGER"), ("files", "checksum INTEGER"), ("files", "decoder TEXT")
_BUSY_SECONDS = 60


def whole_number(row: tuple[Any, ...] | None) -> int:
    """Return the number in a row of the index; a damaged one may hold anything.

    Raises:
        sqlite3.DatabaseError: It holds none.
    """
    if row is None or type(row[0]) is not int:
        raise sqlite3.DatabaseError("its index is damaged")
    return row[0]


def copy_of(path: Path, folder: Path) -> Path:
    """Copy an index, and what a killed run left beside it, to a folder."""
    shutil.copyfile(path, folder / path.name)
    with suppress(FileNotFoundError):
        shutil.copyfile(f"{path}-wal", folder / f"{path.name}-wal")
    return folder / path.name


class Owner:
    """Closes a connection when its thread ends; SQLite's own objects refer to each other, and would stay longer."""

    def __init__(self, index: sqlite3.Connection) -> None:
        self.index = index

    def __del__(self) -> None:
        self.index.close()


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to an index, which one thread uses."""
    # Only its thread uses it, but another one may be the last that refers to it.
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    # Commits survive a kill; a power cut may undo the last ones, whose images are then computed again.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Keys are random: SQLite's usual checkpoints, ten times as many, write most pages anew each, at half the speed.
    connection.execute("PRAGMA wal_autocheckpoint = 10000")
    return connection


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into one line about the folder."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"cannot use the bottleneck folder {folder}: {reason}. Check its permissions and the free disk space, "
            f"delete it to start afresh, or choose another --bottleneck_dir."
        ) from error
