"""The file that keeps what a report shows: a cache that never costs a run anything."""

import os

import pytest

from retrain.evaluation import kept
from retrain.evaluation.kept import NAME, Kept


def keep(folder, values):
    file = Kept(folder)
    file.put(values)
    file.write()


def test_values_are_found_by_another_run(tmp_path):
    folder = tmp_path / "odd ? % # name"
    folder.mkdir()
    values = {number.to_bytes(2): bytes([number % 256]) * number for number in range(1200)}
    keep(folder, values)
    assert Kept(folder).get([*values, b"another"]) == values
    assert {path.name for path in folder.iterdir()} == {NAME}


def test_only_what_is_missing_is_made_once_and_what_there_is_none_of_is_not_kept(tmp_path):
    keep(tmp_path, {b"a": b"1"})
    file, asked = Kept(tmp_path), []

    def make(places):
        asked.append(list(places))
        return [b"2", None]

    assert file.through([b"a", b"b", b"c", b"b"], make) == [b"1", b"2", None, b"2"]
    assert asked == [[1, 2]]
    file.write()
    assert Kept(tmp_path).get([b"a", b"b", b"c"]) == {b"a": b"1", b"b": b"2"}
    assert Kept(tmp_path).through([b"a", b"b"], make) == [b"1", b"2"]
    assert len(asked) == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_damaged_file_gives_nothing_wrong_and_is_made_again(tmp_path, share):
    values = {bytes([number]) * 16: os.urandom(3000) for number in range(40)}
    keep(tmp_path, values)
    data = bytearray((tmp_path / NAME).read_bytes())
    start = int(share * len(data))
    data[start : start + 5000] = b"\xa5" * len(data[start : start + 5000])
    (tmp_path / NAME).write_bytes(data)
    found = Kept(tmp_path).get(list(values))
    assert all(values[key] == value for key, value in found.items())
    assert len(found) < len(values)
    keep(tmp_path, values)
    assert len(Kept(tmp_path).get(list(values))) >= len(found)


def test_what_is_no_file_and_a_folder_that_is_not_there_cost_nothing(tmp_path):
    os.mkfifo(tmp_path / NAME)
    keep(tmp_path, {b"a": b"1"})
    assert Kept(tmp_path).get([b"a"]) == {}
    keep(tmp_path / "nowhere", {b"a": b"1"})
    assert Kept(tmp_path / "nowhere").get([b"a"]) == {}


def test_the_oldest_values_leave_a_file_that_grew_too_large(tmp_path):
    for number in range(30):
        file = Kept(tmp_path, most_bytes=10_000)
        file.put({bytes([number]): bytes(996)})
        file.write()
    left = Kept(tmp_path).get([bytes([number]) for number in range(30)])
    assert sorted(left) == [bytes([number]) for number in range(20, 30)]
    keep(tmp_path, {b"large": bytes(2**20)})
    assert Kept(tmp_path).get([b"large"]) == {}


def test_a_file_that_another_run_writes_to_is_left_alone(tmp_path, monkeypatch):
    import sqlite3

    keep(tmp_path, {b"a": b"1"})
    monkeypatch.setattr(kept, "_BUSY_SECONDS", 0)
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    keep(tmp_path, {b"b": b"2"})
    assert Kept(tmp_path).get([b"a", b"b"]) == {}
    other.execute("ROLLBACK")
    other.close()
    assert Kept(tmp_path).get([b"a", b"b"]) == {b"a": b"1"}
