"""Rows of a mapped file are what was written, however they lie, and those apart are read alone."""

import os
from pathlib import Path

import numpy as np
import pytest

from retrain.bottlenecks import mapped
from retrain.bottlenecks.mapped import MappedVectors

COUNT, DIMENSION = 12_000, 1280


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A file of 61 MB on the disk, and what it holds."""
    path, array = tmp_path_factory.mktemp("mapped") / "vectors.f32", np.empty((COUNT, DIMENSION), np.float32)
    array[:] = np.arange(COUNT)[:, None] + np.arange(DIMENSION) / 4096
    array.tofile(path)
    return path, array


def forget(path):
    """Drop a file from the memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_from_disk():
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        pytest.skip("only Linux counts what is read from the disk")
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


@pytest.mark.parametrize("limit", [0, 3600])
@pytest.mark.parametrize("count", [1, 50, 64, 65, 700])
def test_rows_are_what_was_written_wherever_they_lie(vectors, monkeypatch, count, limit):
    path, array = vectors
    monkeypatch.setattr(mapped, "_IN_MEMORY", limit)  # seconds: all are announced, or none
    file = MappedVectors(path, COUNT, DIMENSION)
    apart = np.random.default_rng(count).integers(0, COUNT, count)
    for rows in (apart, np.sort(apart), np.arange(count), np.arange(COUNT)[-count:], np.zeros(count, np.int64)):
        assert np.array_equal(file.read(rows), array[rows])


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "none").touch()
    assert len(MappedVectors(tmp_path / "none", 0, DIMENSION)) == 0


def test_rows_that_lie_apart_are_read_without_what_lies_between(vectors):
    path, array = vectors
    file = MappedVectors(path, COUNT, DIMENSION)
    rows = np.arange(100, COUNT, 400)
    forget(path)
    before = bytes_from_disk()
    assert np.array_equal(file.read(rows), array[rows])
    assert bytes_from_disk() - before < len(rows) * 2**15  # their pages have 8 KB
