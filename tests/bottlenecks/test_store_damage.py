"""No damage to the files of a store gives a wrong vector, or ends in more than one line."""

import contextlib
import hashlib
import os
import shutil
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_entries import STAMP, change_index, entry, key, vector

from retrain.bottlenecks.store import DamagedVectorsError, Entry, FileRecord, Store
from retrain.errors import StoreError
from retrain.storage.stamps import Stamp


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


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize("table", ["files", "vectors"])
@pytest.mark.parametrize("row", [0, 1, 7, 2**40, -1, "x", None])
def test_an_index_that_points_to_another_row_lends_no_vector(tmp_path, table, row):
    with Store(tmp_path / "s", dimension=4) as store:
        store.put(tmp_path, [entry(i) for i in range(3)])
    column, value = ("name", b"2.jpg") if table == "files" else ("key", key(2)[:16])
    with contextlib.suppress(sqlite3.IntegrityError):  # NULL is allowed for files only
        change_index(tmp_path / "s", f"UPDATE {table} SET row = ? WHERE {column} = ?", row, value)
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
    change_index(tmp_path / "s", damage)
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
    change_index(tmp_path / "s", f"UPDATE {number}")
    with pytest.raises(StoreError, match=f"{said}.*delete it to start afresh"):  # noqa: SIM117
        with Store(tmp_path / "s", dimension=4) as store:
            store.put(tmp_path, [entry(2)])
    assert (tmp_path / "s" / "vectors.f32").stat().st_size == 16


def test_a_reason_or_a_key_of_another_type_is_a_miss(store, tmp_path):
    (row,) = store.put(tmp_path, [entry(1)])
    store.put(tmp_path, [Entry("bad.jpg", STAMP, reason="damaged")])
    change_index(store.folder, "UPDATE files SET reason = x'ff'")
    change_index(store.folder, "UPDATE vectors SET key = 'text'")
    assert list(store.lookup(tmp_path, ["1.jpg", "bad.jpg"])) == [None, None]
    assert store.keys(np.array([row])) == []
