import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

from retrain.bottlenecks.store import DamagedVectorsError, Entry, FileRecord, Stamp, Store
from retrain.errors import StoreError

STAMP = Stamp(10, 20, 30)


def key(number):
    return number.to_bytes(32, "big")[::-1]


def vector(number, dimension=4):
    return np.full(dimension, number, np.float32) + np.arange(dimension, dtype=np.float32) / 8


def entry(number, name=None):
    return Entry(name or f"{number}.jpg", STAMP, key(number), vector(number))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", dimension=4) as opened:
        yield opened


def test_what_was_put_is_read_back_exactly(store, tmp_path):
    rows = store.put(tmp_path, [entry(i) for i in range(50)])
    assert np.array_equal(store.read(np.array(rows[::-1])), np.stack([vector(i) for i in range(50)])[::-1])


def test_a_reopened_store_knows_the_same(tmp_path):
    with Store(tmp_path / "s", dimension=4) as first:
        rows = first.put(tmp_path, [entry(1), Entry("bad.jpg", STAMP, reason="damaged")])
    with Store(tmp_path / "s", dimension=4) as second:
        assert second.find(key(1)) == rows[0]
        assert second.find(key(2)) is None
        known = list(second.lookup(tmp_path, ["1.jpg", "bad.jpg", "new.jpg"]))
        assert known == [FileRecord(STAMP, rows[0], None), FileRecord(STAMP, None, "damaged"), None]


def test_equal_contents_share_a_row(store, tmp_path):
    first, second = store.put(tmp_path, [entry(1, "a.jpg"), entry(1, "b.jpg")])
    (third,) = store.put(tmp_path, [Entry("c.jpg", STAMP, key(1))])
    assert first == second == third


def test_folders_do_not_mix(store, tmp_path):
    (tmp_path / "x").mkdir()
    store.put(tmp_path / "x", [entry(1)])
    assert list(store.lookup(tmp_path, ["1.jpg"])) == [None]
    assert list(store.lookup(tmp_path / "x", ["1.jpg"]))[0].row is not None


def test_names_of_any_bytes_are_remembered(store, tmp_path):
    names = ["Тюльпан/1.jpg", "a'b\"c.jpg", "two\nlines.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    rows = store.put(tmp_path, [entry(i, name) for i, name in enumerate(names)])
    assert [known.row for known in store.lookup(tmp_path, names)] == rows


@pytest.mark.parametrize("file", ["vectors.f32", "checksums.u32"])
def test_a_damaged_row_is_named_and_can_be_forgotten(store, tmp_path, file):
    rows = np.array(store.put(tmp_path, [entry(i) for i in range(5)]))
    with (store.folder / file).open("r+b") as opened:
        opened.seek(2 * (16 if file == "vectors.f32" else 4))
        opened.write(b"\x55")
    with pytest.raises(DamagedVectorsError) as error:
        store.read(rows)
    assert error.value.rows.tolist() == [2]
    store.forget(error.value.rows)
    assert store.find(key(2)) is None
    assert list(store.lookup(tmp_path, ["2.jpg"])) == [None]
    assert np.array_equal(store.read(rows[[0, 1, 3, 4]])[:, 0], [0, 1, 3, 4])


def test_a_file_cut_short_is_damage_and_not_a_crash(store, tmp_path):
    rows = np.array(store.put(tmp_path, [entry(i) for i in range(5)]))
    os.truncate(store.folder / "vectors.f32", 3 * 16 + 5)
    with pytest.raises(DamagedVectorsError) as error:
        store.read(rows)
    assert error.value.rows.tolist() == [3, 4]


def test_rows_written_but_never_committed_are_not_found(store, tmp_path):
    store._write(store._reserve(3), np.stack([vector(9)] * 3))  # what a kill before the commit leaves behind
    (row,) = store.put(tmp_path, [entry(1)])
    assert row == 3
    assert np.array_equal(store.read(np.array([row]))[0], vector(1))


def _fill(folder, start, barrier):
    with Store(folder / "s", dimension=4) as store:
        barrier.wait()
        for i in range(start, start + 200):
            store.put(folder, [entry(i)])


def test_two_processes_fill_one_store_and_both_are_right(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_fill, args=(tmp_path, start, barrier)) for start in (0, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with Store(tmp_path / "s", dimension=4) as store:
        rows = np.array([store.find(key(i)) for i in range(300)])
        assert np.array_equal(store.read(rows), np.stack([vector(i) for i in range(300)]))


def test_no_vectors_are_read_as_none(store):
    assert store.read(np.zeros(0, np.int64)).shape == (0, 4)


def test_a_store_that_cannot_be_made_names_the_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / "file"))):
        Store(tmp_path / "file" / "store", dimension=4)


def test_an_index_that_is_no_database_is_one_clear_error(tmp_path):
    (tmp_path / "index.sqlite").write_text("this is not a database, but long enough to look at" * 30)
    with pytest.raises(StoreError, match="delete it to start afresh"):
        Store(tmp_path, dimension=4)


def test_an_index_damaged_inside_is_one_clear_error(tmp_path):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(i) for i in range(2000)])
    index = tmp_path / "s" / "index.sqlite"
    content = index.read_bytes()
    index.write_bytes(content[: 6 * 4096] + b"\x55" * (len(content) - 6 * 4096))
    with Store(tmp_path / "s", dimension=4) as store, pytest.raises(StoreError, match="delete it to start afresh"):
        list(store.lookup(tmp_path, [f"{i}.jpg" for i in range(2000)]))


STRESS = """
import hashlib, sys, threading
from pathlib import Path
import numpy as np
from retrain.bottlenecks.store import Entry, Stamp, Store

folder = Path(sys.argv[1])
keys = [hashlib.sha256(b"%d" % n).digest() for n in range(2000)]
wrong = []
with Store(folder / "store", dimension=2) as store:
    vectors = [np.full(2, n, np.float32) for n in range(2000)]
    entries = [Entry(str(n), Stamp(n, n, n), keys[n], vectors[n]) for n in range(0, 2000, 2)]
    rows = dict(zip(range(0, 2000, 2), store.put(folder, entries)))

    def look(seed):
        try:
            for n in np.random.default_rng(seed).integers(2000, size=20_000).tolist():
                if store.find(keys[n]) != rows.get(n):
                    wrong.append(n)
                elif n in rows and not n % 100 and store.read(np.array([rows[n]]))[0, 0] != n:
                    wrong.append(n)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert not wrong, (len(wrong), wrong[:3])
"""


@pytest.mark.parametrize("python", [sys.executable, "python3.11", "python3.12", "python3.13"])
def test_threads_that_look_up_at_once_get_known_answers_under_every_python(tmp_path, python):
    found = shutil.which(python)
    if not found or subprocess.run([found, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} is not installed, or has no numpy")
    words = [found, "-W", "error", "-c", STRESS, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_may_be_filled_read_and_repaired_from_several_threads(store, tmp_path):
    wrong = []

    def work(start):
        for i in range(start, start + 50):
            rows = np.array(store.put(tmp_path, [entry(i)]))
            if not np.array_equal(store.read(rows)[0], vector(i)):
                wrong.append(i)
            if i % 2:
                store.forget(rows)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [store.find(key(i)) is not None for i in range(50)] == [True, False] * 25
