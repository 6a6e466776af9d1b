"""What the tests of a store put into it, and how they change its index."""

import contextlib
import os
import sqlite3

import numpy as np

from retrain.bottlenecks.store import Entry
from retrain.storage.stamps import Stamp

STAMP = Stamp(10, 20, 30)


def key(number):
    return number.to_bytes(32, "big")[::-1]


def vector(number, dimension=4):
    return np.full(dimension, number, np.float32) + np.arange(dimension, dtype=np.float32) / 8


def entry(number, name=None):
    return Entry(name or f"{number}.jpg", STAMP, key(number), vector(number))


def change_index(folder, statement, *values):
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as index:
        assert index.execute(statement, values).rowcount > 0


def earlier_store(folder, photos):
    """Write three rows as earlier versions did, with checksums of sums of words."""
    folder.mkdir()
    vectors = np.stack([vector(i) for i in range(3)])
    vectors.tofile(folder / "vectors.f32")
    (vectors.view(np.uint32).sum(axis=1, dtype=np.uint32) + np.uint32(0x5EED0F00)).tofile(folder / "checksums.u32")
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as index:
        index.executescript(
            "CREATE TABLE vectors (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE folders (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL);"
            "CREATE TABLE files (folder INTEGER, name BLOB, size INTEGER, modified INTEGER, changed INTEGER,"
            " row INTEGER, reason TEXT, PRIMARY KEY (folder, name)) WITHOUT ROWID;"
            "CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), rows INTEGER NOT NULL);"
            "INSERT INTO counter VALUES (0, 3)"
        )
        index.execute("INSERT INTO folders VALUES (1, ?)", (os.fsencode(photos.resolve()),))
        for i in range(3):
            index.execute("INSERT INTO vectors VALUES (?, ?)", (key(i)[:16], i))
            index.execute("INSERT INTO files VALUES (1, ?, 10, 20, 30, ?, NULL)", (b"%d.jpg" % i, i))
