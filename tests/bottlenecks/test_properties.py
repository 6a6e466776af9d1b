"""What is known of photos beside their vectors is kept with them, and is nobody else's."""

import os
import shutil

import numpy as np
import pytest
from conftest import photo
from mean_colour import MeanColour
from store_entries import STAMP, earlier_store, entry, key, vector

from retrain.bottlenecks import computing, property_file
from retrain.bottlenecks.cluster import parts
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.reading import BottleneckReader
from retrain.bottlenecks.store import Entry, Store
from retrain.data.distortions import Distortions
from retrain.data.properties import RECORD
from retrain.data.variants import Distorter, Variant


def record(width):
    one = np.zeros((), RECORD)
    one["width"], one["camera"] = width, f"camera {width}".encode()
    return one.tobytes()


def known_entry(number):
    return Entry(f"{number}.jpg", STAMP, key(number), vector(number), properties=record(number))


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        photo(tmp_path / "photos" / "a" / f"{number}.png", (number * 50, 0, 255), (20 + number, 10))
    return tmp_path / "photos"


def reader_of(folder, store, **options):
    variants = [Variant(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.png"))]
    extractor = FeatureExtractor(folder, MeanColour(), **options)
    everything = np.arange(len(variants))
    reader = BottleneckReader.filled(
        variants, everything, extractor=extractor, store=store, advance=lambda done, total: None
    )
    return reader, everything


def widths(reader, indices):
    read = []
    found = reader.properties(indices, lambda done, total: read.append((done, total)))
    return found["width"].tolist(), read


@pytest.fixture
def colours(tmp_path):
    with Store(tmp_path / "colours", dimension=3) as opened:
        yield opened


def test_they_are_kept_when_vectors_are_computed_and_no_photo_is_read_for_them(folder, colours):
    reader, everything = reader_of(folder, colours)
    shutil.rmtree(folder)
    assert widths(reader, everything) == ([20, 21, 22, 23, 24], [])


def test_a_store_without_them_reads_each_photo_once(folder, colours):
    reader, everything = reader_of(folder, colours)
    (colours.folder / property_file.NAME).unlink()
    assert widths(reader, everything[1:]) == ([21, 22, 23, 24], [(4, 4)])
    shutil.rmtree(folder)
    assert widths(reader, everything[1:]) == ([21, 22, 23, 24], [])
    assert widths(reader, everything) == ([0, 21, 22, 23, 24], [(1, 1)])


def test_a_photo_that_was_replaced_meanwhile_lends_nothing(folder, colours):
    reader, everything = reader_of(folder, colours)
    (colours.folder / property_file.NAME).unlink()
    photo(folder / "a" / "2.png", (1, 2, 3), (99, 10))
    assert widths(reader, everything)[0] == [20, 21, 0, 23, 24]
    assert widths(reader_of(folder, colours)[0], everything)[0] == [20, 21, 99, 23, 24]


def test_a_distorted_copy_has_none_and_its_photo_has(folder, colours):
    distorter = Distorter(Distortions(flip_left_right=True), 0)
    extractor = FeatureExtractor(folder, MeanColour(), distorter)
    variants = [Variant("a/1.png", "0"), Variant("a/1.png")]
    rows = computing.compute(variants, [0, 1], extractor=extractor, store=colours).rows
    assert colours.properties(rows)["width"].tolist() == [0, 21]


def test_a_store_of_an_earlier_version_has_none_and_takes_them(tmp_path):
    earlier_store(tmp_path / "s", tmp_path)
    with Store(tmp_path / "s", dimension=4) as store:
        assert store.properties(np.arange(3))["width"].tolist() == [0, 0, 0]
        store.put_properties(np.array([2, 0]), [record(12), record(10)])
        store.put(tmp_path, [known_entry(3)])
    with Store(tmp_path / "s", dimension=4) as store:
        assert store.properties(np.array([3, 2, 1, 0, 9, -1]))["width"].tolist() == [3, 12, 0, 10, 0, 0]


def test_they_are_added_to_a_vector_that_is_there(store, tmp_path):
    store.put(tmp_path, [entry(0), entry(1)])
    rows = store.put(tmp_path, [Entry("1.jpg", STAMP, key(1), properties=record(7))])
    assert store.properties(np.array([0, *rows]))["width"].tolist() == [0, 7]


def test_damaged_ones_are_missing(store, tmp_path):
    rows = np.array(store.put(tmp_path, [known_entry(number) for number in range(1, 5)]))
    path = store.folder / property_file.NAME
    size = path.stat().st_size // 4
    with path.open("r+b") as file:
        file.seek(size + 3)
        file.write(b"\x55")
    os.truncate(path, 4 * size - 1)
    assert store.properties(rows)["width"].tolist() == [1, 0, 3, 0]


def test_those_of_another_row_or_vector_are_missing(store, tmp_path):
    rows = np.array(store.put(tmp_path, [known_entry(number) for number in range(1, 4)]))
    path = store.folder / property_file.NAME
    content = path.read_bytes()
    size = len(content) // 3
    path.write_bytes(content[size:])
    assert store.properties(rows)["width"].tolist() == [0, 0, 0]
    path.write_bytes(content)
    store.forget(rows[:1])
    assert store.properties(rows)["width"].tolist() == [0, 2, 3]


def test_a_store_that_may_only_be_read_measures_and_keeps_nothing(folder, tmp_path, monkeypatch):
    with Store(tmp_path / "s", dimension=3) as store:
        reader_of(folder, store)
    path = tmp_path / "s" / property_file.NAME
    path.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Store(tmp_path / "s", dimension=3) as store:
        assert widths(*reader_of(folder, store))[0] == [20, 21, 22, 23, 24]
    assert not path.exists()


def test_a_part_of_a_cluster_carries_them():
    entries = [known_entry(1), entry(2), Entry("bad.jpg", STAMP, reason="damaged"), known_entry(3)]
    back = parts.unpack(parts.pack(entries, 4), 4)
    assert [e.properties for e in back] == [e.properties for e in entries]


def test_a_part_of_an_earlier_version_has_none(tmp_path):
    data = parts.pack([known_entry(1)], 4)
    (tmp_path / "part.npz").write_bytes(data)
    with np.load(tmp_path / "part.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "properties"}
    np.savez(tmp_path / "earlier.npz", **kept)
    (back,) = parts.unpack((tmp_path / "earlier.npz").read_bytes(), 4)
    assert back.properties is None
    assert np.array_equal(back.vector, vector(1))


def test_many_records_are_read_as_few_are(tmp_path):
    count = property_file._AT_ONCE + 3
    known, sums = property_file.PropertyFile(tmp_path), np.arange(count + 1, dtype=np.uint32)
    known.write(range(count), sums[:count].tolist(), [record(number + 1) for number in range(count)])
    rows = np.arange(count, -2, -1)  # backwards, with one before the first and one behind the last
    np.testing.assert_array_equal(known.read(rows, sums[rows])["width"], [0, *range(count, 0, -1), 0])
