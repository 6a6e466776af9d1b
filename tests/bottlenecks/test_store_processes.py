"""One store in the hands of several threads and processes, of readers alone, and on a full disk."""

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT
from store_entries import STAMP, change_index, earlier_store, entry, key, vector

from retrain.bottlenecks.store import Entry, Store


def _said_by(program, *words, python=sys.executable, **options):
    """Return what a program prints in a fresh Python, which must end well and warn of nothing."""
    done = subprocess.run(
        [python, "-W", "error", "-c", program, *map(str, words)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False, **options,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


READ_ONLY = """
import sys
from pathlib import Path
import numpy as np
from retrain.bottlenecks.store import Entry, Store
from retrain.storage.stamps import Stamp
from retrain.errors import StoreError

folder, photos = Path(sys.argv[1]), Path(sys.argv[2])
key = b"k" * 32
with Store(folder, dimension=4) as store:
    (record,) = store.lookup(photos, ["1.jpg"])
    row = record.row
    assert store.read(np.array([row])).tolist() == [[1, 2, 3, 4]]
    assert store.find(key) == row
    assert store.put(photos / "elsewhere", [Entry("2.jpg", Stamp(4, 5, 6), key)]) == [row]
    assert [known.row for known in store.lookup(photos / "elsewhere", ["2.jpg"])] == [row]
    try:
        store.put(photos, [Entry("3.jpg", Stamp(4, 5, 6), b"new", np.ones(4, np.float32))])
    except StoreError as error:
        print(error)
"""


def _without_the_powers_of_root():
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@pytest.mark.skipif(sys.platform != "linux", reason="root can be held back by permissions on Linux only")
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_store_that_may_only_be_read_is_read(tmp_path, killed, earlier):
    folder, photos = tmp_path / "s", tmp_path / "photos"
    if earlier:
        earlier_store(folder, photos)
        change_index(folder, "UPDATE vectors SET key = ? WHERE row = 1", b"k" * 16)
        content = bytearray((folder / "vectors.f32").read_bytes())
        content[16:32] = np.arange(1, 5, dtype=np.float32).tobytes()
        (folder / "vectors.f32").write_bytes(content)
        sums = np.frombuffer(content, np.uint32).reshape(3, 4).sum(axis=1, dtype=np.uint32) + np.uint32(0x5EED0F00)
        sums.tofile(folder / "checksums.u32")
    else:
        store = Store(folder, dimension=4)
        store.put(photos, [Entry("1.jpg", STAMP, b"k" * 32, np.arange(1, 5, dtype=np.float32))])
        if killed:  # what is in the log is not in the index yet
            shutil.copytree(folder, tmp_path / "killed")
            folder = tmp_path / "killed"
        store.__exit__(None, None, None)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = _said_by(READ_ONLY, folder, photos, preexec_fn=_without_the_powers_of_root)
    folder.chmod(0o755)
    assert "it may only be read" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from retrain.bottlenecks.store import Entry, Store
from retrain.storage.stamps import Stamp
from retrain.errors import StoreError

folder, dimension, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Store(folder, dimension=dimension) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for n in range(100_000):
        try:
            key = n.to_bytes(32, "little")
            store.put(folder, [Entry(f"{n}.jpg", Stamp(n, n, n), key, np.full(dimension, n, np.float32))])
        except StoreError as error:
            line = error.args[0]
            break
    try:
        list(store.lookup(folder, ["1.jpg"]))
    except StoreError:
        pass
    print(n)
    print(line)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize(("dimension", "limit"), [(1000, 150_000), (1, 200_000), (1, 1_000_000)])
def test_a_disk_that_fills_up_is_one_line_and_what_was_stored_stays(tmp_path, dimension, limit):
    stored, line = _said_by(FULL_DISK, tmp_path / "s", dimension, limit).splitlines()
    assert 0 < int(stored) < 99_999
    assert "the free disk space" in line
    with Store(tmp_path / "s", dimension=dimension) as store:
        rows = np.array([store.find(n.to_bytes(32, "little")) for n in range(int(stored))])
        assert np.array_equal(store.read(rows)[:, 0], np.arange(int(stored)))


def _fill(folder, start, barrier):
    with Store(folder / "s", dimension=4) as store:
        barrier.wait()
        for i in range(start, start + 200):
            store.put(folder, [entry(i)])


@pytest.mark.slow
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


STRESS = """
import hashlib, sys, threading
from pathlib import Path
import numpy as np
from retrain.bottlenecks.store import Entry, Store
from retrain.storage.stamps import Stamp

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


@pytest.mark.parametrize(
    "python",
    [sys.executable, *(pytest.param(f"python3.{minor}", marks=pytest.mark.slow) for minor in (11, 12, 13))],
)
def test_threads_that_look_up_at_once_get_known_answers_under_every_python(tmp_path, python):
    found = shutil.which(python)
    if not found or subprocess.run([found, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} is not installed, or has no numpy")
    _said_by(STRESS, tmp_path, python=found)


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


def test_the_connections_of_threads_that_have_ended_are_closed(tmp_path):
    with Store(tmp_path / "s", dimension=4) as store:
        (row,) = store.put(tmp_path, [entry(1)])
        found = []
        threads = [threading.Thread(target=lambda: found.append(store.find(key(1)))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [row] * 3
    # The last connection that is closed puts the log into the index.
    assert sorted(path.name for path in store.folder.iterdir()) == ["checksums.u32", "index.sqlite", "vectors.f32"]
