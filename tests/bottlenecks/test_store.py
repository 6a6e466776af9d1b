"""A store gives back what was put into it, to the bit."""

import os
import re

import numpy as np
import pytest
from store_entries import STAMP, change_index, earlier_store, entry, key, vector

from retrain.bottlenecks.store import DamagedVectorsError, Entry, FileRecord, Store
from retrain.errors import StoreError


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


def test_rows_of_an_earlier_version_stay_beside_new_ones(tmp_path):
    earlier_store(tmp_path / "s", tmp_path)
    for number in (3, 4):  # opened twice: what is changed once stays
        with Store(tmp_path / "s", dimension=4) as store:
            assert store.put(tmp_path, [entry(number), Entry("again.jpg", STAMP, key(1))]) == [number, 1]
            known = [record.row for record in store.lookup(tmp_path, ["0.jpg", "1.jpg", "2.jpg", f"{number}.jpg"])]
            assert known == [0, 1, 2, number]
            rows = np.array([*known, 1])
            assert np.array_equal(store.read(rows), np.stack([vector(i) for i in rows]))
    change_index(tmp_path / "s", "UPDATE files SET row = 0 WHERE name = ?", b"1.jpg")
    with (tmp_path / "s" / "vectors.f32").open("r+b") as file:
        file.seek(2 * 16)
        file.write(b"\x55")
    with Store(tmp_path / "s", dimension=4) as store:
        assert list(store.lookup(tmp_path, ["1.jpg"])) == [None]
        with pytest.raises(DamagedVectorsError) as error:
            store.read(np.arange(5))
        assert error.value.rows.tolist() == [2]


def test_a_row_that_another_run_forgets_meanwhile_is_no_row_and_is_not_recorded(store, tmp_path):
    rows = store.put(tmp_path, [entry(1)])
    with Store(store.folder, dimension=4) as other:
        other.forget(np.array(rows))
    assert store.put(tmp_path, [Entry("b.jpg", STAMP, key(1))]) == [None]
    assert list(store.lookup(tmp_path, ["b.jpg"])) == [None]


def test_rows_written_but_never_committed_are_not_found(store, tmp_path):
    store._write(np.stack([vector(9)] * 3))  # what a kill before the commit leaves behind
    (row,) = store.put(tmp_path, [entry(1)])
    assert row == 3
    assert np.array_equal(store.read(np.array([row]))[0], vector(1))


def test_no_vectors_are_read_as_none(store):
    assert store.read(np.zeros(0, np.int64)).shape == (0, 4)


def test_a_store_that_cannot_be_made_names_the_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / "file"))):
        Store(tmp_path / "file" / "store", dimension=4)
