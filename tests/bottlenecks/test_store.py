import contextlib
import ctypes
import hashlib
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_words_that_change_places_and_bits_that_flip_in_pairs_are_damage(store, tmp_path):
    numbers = np.array([0, 2, 2, -2, 0.5, 6, 0, 1], np.float32).reshape(2, 4)
    entries = [Entry(f"{i}", STAMP, key(i), row) for i, row in enumerate(numbers)]
    rows = store.put(tmp_path, entries)
    content = (store.folder / "vectors.f32").read_bytes()
    words = np.frombuffer(content, np.uint32).reshape(2, 4)
    for first, second in ((0, 1), (0, 3), (1, 2), (2, 3)):
        for row in range(2):
            swapped, negated = words.copy(), words.copy()
            swapped[row, [first, second]] = swapped[row, [second, first]]
            negated[row, [first, second]] ^= 0x80000000
            for changed in (swapped, negated):
                (store.folder / "vectors.f32").write_bytes(changed.tobytes())
                with Store(store.folder, dimension=4) as again:
                    if np.array_equal(changed, words):
                        assert np.array_equal(again.read(np.array(rows)), numbers)
                    else:
                        with pytest.raises(DamagedVectorsError):
                            again.read(np.array(rows))


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """The folder of a store of 20 photos, each with a stamp of its own."""
    folder = tmp_path_factory.mktemp("whole")
    with Store(folder, dimension=4) as store:
        store.put(folder, [Entry(f"{i}.jpg", Stamp(i, 1000 + i, 2000 + i), _hashed(i), vector(i)) for i in range(20)])
    return folder


def _hashed(number):
    return hashlib.sha256(bytes([number])).digest()


def _assert_no_wrong_vector(folder, images):
    """Look up and find every photo: its own vector, or none."""
    with Store(folder, dimension=4) as store:
        names = [f"{i}.jpg" for i in range(20)]
        for number, record in enumerate(store.lookup(images, names)):
            known = record is not None and record.stamp == Stamp(number, 1000 + number, 2000 + number)
            for row in {record.row if known else None, store.find(_hashed(number))} - {None}:
                with contextlib.suppress(DamagedVectorsError):
                    assert np.array_equal(store.read(np.array([row]))[0], vector(number))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["vectors.f32", "checksums.u32", "index.sqlite"]),
    st.one_of(
        st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=4),  # flips
        st.integers(0, 2**16),  # cut short
        st.binary(max_size=64),  # other bytes
    ),
)
def test_no_damage_gives_a_wrong_vector(whole_store, tmp_path, file, damage):
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole_store, folder)
    changed = bytearray((folder / file).read_bytes())
    if isinstance(damage, list):
        for position, change in damage:
            changed[position % len(changed)] ^= change
    else:
        changed = damage if isinstance(damage, bytes) else changed[: damage % len(changed)]
    (folder / file).write_bytes(changed)
    with contextlib.suppress(StoreError):
        _assert_no_wrong_vector(folder, whole_store)


def _change(folder, statement, *values):
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as index:
        assert index.execute(statement, values).rowcount > 0


@pytest.mark.parametrize("table", ["files", "vectors"])
@pytest.mark.parametrize("row", [0, 1, 7, 2**40, -1, "x", None])
def test_an_index_that_points_to_another_row_lends_no_vector(tmp_path, table, row):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(i) for i in range(3)])
    column, value = ("name", b"2.jpg") if table == "files" else ("key", key(2)[:16])
    with contextlib.suppress(sqlite3.IntegrityError):  # NULL is allowed for files only
        _change(tmp_path / "s", f"UPDATE {table} SET row = ? WHERE {column} = ?", row, value)
        with Store(tmp_path / "s", dimension=4) as store:
            (record,) = store.lookup(tmp_path, ["2.jpg"])
            if table == "files":
                assert record == (FileRecord(STAMP, None, None) if row is None else None)
            else:
                assert store.find(key(2)) is None
            (mended,) = store.put(tmp_path, [entry(2)])
            assert list(store.lookup(tmp_path, ["2.jpg"])) == [FileRecord(STAMP, mended, None)]
            assert store.find(key(2)) == mended
            assert np.array_equal(store.read(np.array([mended]))[0], vector(2))


def test_two_rows_that_change_places_with_their_checksums_are_both_missed(tmp_path):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(i) for i in range(3)])
    for name in ("vectors.f32", "checksums.u32"):
        rows = np.fromfile(tmp_path / "s" / name, np.uint32).reshape(3, -1)
        rows[[1, 0, 2]].tofile(tmp_path / "s" / name)
    with Store(tmp_path / "s", dimension=4) as store:
        known = list(store.lookup(tmp_path, ["0.jpg", "1.jpg", "2.jpg"]))
        assert known == [None, None, FileRecord(STAMP, 2, None)]
        assert [store.find(key(i)) for i in range(3)] == [None, None, 2]


def _earlier_store(folder, photos):
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


def test_rows_of_an_earlier_version_stay_beside_new_ones(tmp_path):
    _earlier_store(tmp_path / "s", tmp_path)
    for number in (3, 4):  # opened twice: what is changed once stays
        with Store(tmp_path / "s", dimension=4) as store:
            assert store.put(tmp_path, [entry(number), Entry("again.jpg", STAMP, key(1))]) == [number, 1]
            known = [record.row for record in store.lookup(tmp_path, ["0.jpg", "1.jpg", "2.jpg", f"{number}.jpg"])]
            assert known == [0, 1, 2, number]
            rows = np.array([*known, 1])
            assert np.array_equal(store.read(rows), np.stack([vector(i) for i in rows]))
    _change(tmp_path / "s", "UPDATE files SET row = 0 WHERE name = ?", b"1.jpg")
    with (tmp_path / "s" / "vectors.f32").open("r+b") as file:
        file.seek(2 * 16)
        file.write(b"\x55")
    with Store(tmp_path / "s", dimension=4) as store:
        assert list(store.lookup(tmp_path, ["1.jpg"])) == [None]
        with pytest.raises(DamagedVectorsError) as error:
            store.read(np.arange(5))
        assert error.value.rows.tolist() == [2]


def test_a_store_cut_short_is_missed_before_it_is_read_and_forgotten_without_a_search(tmp_path):
    count, kept = 50_000, 10_000
    vectors = np.arange(count, dtype=np.float32)[:, None]
    with Store(tmp_path / "s", dimension=1) as store:
        store.put(tmp_path, [Entry(f"{n:06}", STAMP, key(n), vectors[n]) for n in range(count)])
    os.truncate(tmp_path / "s" / "vectors.f32", 4 * kept)
    names = [f"{n:06}" for n in range(count)]
    with Store(tmp_path / "s", dimension=1) as store:
        assert [n for n, record in enumerate(store.lookup(tmp_path, names)) if record] == list(range(kept))
        assert store.find(key(kept - 1)) == kept - 1
        assert store.find(key(kept)) is None
        with pytest.raises(DamagedVectorsError) as damage:
            store.read(np.arange(count))
        statements = []
        store._index.set_trace_callback(statements.append)
        store.forget(damage.value.rows)
        store.forget(np.array([1]))
        assert statements == []  # no search, whatever the number of rows and of photos
        store._index.set_trace_callback(None)
        assert (store.find(key(1)), list(store.lookup(tmp_path, [names[1]]))) == (None, [None])
        assert (store.find(key(kept - 1)), store.find(key(kept))) == (kept - 1, None)
        assert list(store.lookup(tmp_path, [names[kept]])) == [None]


def test_rows_of_an_empty_file_are_forgotten(store, tmp_path):
    rows = np.array(store.put(tmp_path, [entry(i) for i in range(3)]))
    os.truncate(store.folder / "checksums.u32", 0)
    store.forget(rows)
    with Store(store.folder, dimension=4) as again:
        assert [again.find(key(i)) for i in range(3)] == [None] * 3
        mended = again.put(tmp_path, [entry(i) for i in range(3)])
        assert np.array_equal(again.read(np.array(mended)), np.stack([vector(i) for i in range(3)]))


def test_a_row_that_another_run_forgets_meanwhile_is_no_row_and_is_not_recorded(store, tmp_path):
    rows = store.put(tmp_path, [entry(1)])
    with Store(store.folder, dimension=4) as other:
        other.forget(np.array(rows))
    assert store.put(tmp_path, [Entry("b.jpg", STAMP, key(1))]) == [None]
    assert list(store.lookup(tmp_path, ["b.jpg"])) == [None]


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
from retrain.bottlenecks.store import Entry, Stamp, Store
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
        _earlier_store(folder, photos)
        _change(folder, "UPDATE vectors SET key = ? WHERE row = 1", b"k" * 16)
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
from retrain.bottlenecks.store import Entry, Stamp, Store
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


def test_rows_written_but_never_committed_are_not_found(store, tmp_path):
    store._write(np.stack([vector(9)] * 3))  # what a kill before the commit leaves behind
    (row,) = store.put(tmp_path, [entry(1)])
    assert row == 3
    assert np.array_equal(store.read(np.array([row]))[0], vector(1))


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
    with pytest.raises(StoreError, match="delete it to start afresh"), Store(tmp_path / "s", dimension=4) as store:
        list(store.lookup(tmp_path, [f"{i}.jpg" for i in range(2000)]))


@pytest.mark.parametrize("damage", ["DELETE FROM counter", "UPDATE counter SET rows = 'x'"])
def test_a_damaged_counter_of_rows_costs_no_row(tmp_path, damage):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(1)])
    _change(tmp_path / "s", damage)
    with Store(tmp_path / "s", dimension=4) as store:
        (row,) = store.put(tmp_path, [entry(2)])
        rows = np.array([store.find(key(1)), row])
        assert np.array_equal(store.read(rows), np.stack([vector(1), vector(2)]))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("ordered SET first = 'x'", "its index is damaged"),
        ("counter SET rows = 1e300", "its index is damaged"),
        ("counter SET rows = 2000000000", "its count of rows is damaged"),
    ],
)
def test_a_number_of_the_index_that_makes_no_sense_is_one_line(tmp_path, number, said):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(1)])
    _change(tmp_path / "s", f"UPDATE {number}")
    with pytest.raises(StoreError, match=f"{said}.*delete it to start afresh"):  # noqa: SIM117
        with Store(tmp_path / "s", dimension=4) as store:
            store.put(tmp_path, [entry(2)])
    assert (tmp_path / "s" / "vectors.f32").stat().st_size == 16


def test_a_reason_or_a_key_of_another_type_is_a_miss(store, tmp_path):
    (row,) = store.put(tmp_path, [entry(1)])
    store.put(tmp_path, [Entry("bad.jpg", STAMP, reason="damaged")])
    _change(store.folder, "UPDATE files SET reason = x'ff'")
    _change(store.folder, "UPDATE vectors SET key = 'text'")
    assert list(store.lookup(tmp_path, ["1.jpg", "bad.jpg"])) == [None, None]
    assert store.keys(np.array([row])) == []


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
