import errno
import hashlib
import os
import pydoc
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from mean_colour import MeanColour
from PIL import Image

from retrain.backbones.loading import Backbone
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.reading import BottleneckReader, compute_now
from retrain.bottlenecks.store import Entry, Store
from retrain.data.decoding import decode
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter, Variant
from retrain.errors import StoreError
from retrain.preprocessing import ASPECT_MODES, LETTERBOX, InputSpec
from retrain.storage.stamps import Stamp

WAYS = [(False, 1), (False, 5), (True, 1)]  # batched or not, and how many photos a thread runs at once


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        photo(tmp_path / "photos" / "a" / f"{number}.png", (number * 20, 0, 255), seed=number)
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", dimension=3) as opened:
        yield opened


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_fifo())


def photos(folder):
    return [Variant(name) for name in names(folder)]


def fill(folder, store, runner=None, **options):
    extractor = FeatureExtractor(folder, runner or MeanColour())
    known, todo = computing.missing(photos(folder), extractor=extractor, store=store)
    found = computing.compute(photos(folder), todo, extractor=extractor, store=store, **options)
    rejected = known.rejected | found.rejected
    return np.maximum(known.rows, found.rows), rejected, found


def expected(folder):
    return np.stack([decode((folder / name).read_bytes(), height=8, width=8).mean((0, 1)) for name in names(folder)])


@pytest.mark.parametrize(("batched", "at_once"), WAYS)
def test_every_image_gets_its_own_vector(folder, store, batched, at_once):
    rows, rejected, found = fill(folder, store, MeanColour(batched, at_once=at_once))
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)
    assert (found.computed, found.read, rejected) == (12, 12, {})


@pytest.mark.parametrize("mode", ASPECT_MODES)
def test_photos_keep_their_aspect_ratio_distorted_or_not(tmp_path, mode):
    photo(tmp_path / "a" / "wide.png", (255, 0, 0), (60, 20))
    backbone = Backbone("mean colour", Path("unused"), InputSpec("input", 30, 30, 0, 1, mode), "mean", 3)
    distorter = Distorter(Distortions(flip_left_right=True, random_brightness=1), 0)
    extractor = FeatureExtractor(tmp_path, MeanColour(backbone=backbone), distorter)
    plain, copy = extractor.pixels([Variant("a/wide.png"), Variant("a/wide.png", "0")])
    data = (tmp_path / "a" / "wide.png").read_bytes()
    assert np.array_equal(plain, decode(data, height=30, width=30, keep_aspect_ratio=mode))
    is_grey = np.ptp(copy.astype(int), axis=2) < 5
    assert is_grey.all(axis=1).sum() == (20 if mode == LETTERBOX else 0)


def test_a_second_run_computes_nothing_and_opens_no_image(folder, store):
    first, _, _ = fill(folder, store)
    runner = MeanColour()
    second, _, found = fill(folder, store, runner)
    assert np.array_equal(first, second)
    assert (runner.count, found.read) == (0, 0)


def test_replacing_one_image_recomputes_exactly_one(folder, store):
    fill(folder, store)
    photo(folder / "a" / "3.png", (9, 200, 30), seed=99)
    runner = MeanColour()
    rows, _, found = fill(folder, store, runner)
    assert (runner.count, found.read) == (1, 1)
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)


def test_a_new_class_computes_only_its_own(folder, store):
    fill(folder, store)
    photo(folder / "b" / "1.png", (1, 2, 3))
    runner = MeanColour()
    fill(folder, store, runner)
    assert runner.count == 1


def test_moving_the_folder_reads_but_computes_nothing(folder, store, tmp_path):
    fill(folder, store)
    folder.rename(tmp_path / "moved")
    runner = MeanColour()
    _, _, found = fill(tmp_path / "moved", store, runner)
    assert (runner.count, found.read, found.computed) == (0, 12, 0)


def test_a_copy_of_an_image_shares_its_vector(folder, store):
    fill(folder, store)
    shutil.copy(folder / "a" / "1.png", folder / "a" / "copy.png")
    runner = MeanColour()
    rows, _, _ = fill(folder, store, runner)
    assert runner.count == 0
    assert rows[names(folder).index("a/1.png")] == rows[names(folder).index("a/copy.png")]


@pytest.mark.parametrize(("batched", "at_once"), WAYS)
def test_bad_files_are_rejected_with_a_reason_and_cost_nothing_else(folder, store, batched, at_once):
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "a" / "notes.txt").write_text("hello")
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "a" / "pipe.jpg")
    (folder / "a" / "gone.jpg").symlink_to(folder / "nowhere")
    paths = sorted({*names(folder), "a/gone.jpg"})
    runner = MeanColour(batched, at_once=at_once)
    variants = [Variant(path) for path in paths]
    extractor = FeatureExtractor(folder, runner)
    found = computing.compute(variants, range(len(paths)), extractor=extractor, store=store)
    assert runner.count == 12
    words = {
        "empty": "empty file",
        "notes": "not a JPEG",
        "cut": "damaged",
        "pipe": "not a regular file",
        "gone": "No such file",
    }
    assert {path.split("/")[1].split(".")[0] for path in found.rejected} == set(words)
    for path, reason in found.rejected.items():
        assert words[path.split("/")[1].split(".")[0]] in reason
        assert found.rows[paths.index(path)] == -1


def test_a_rejection_is_remembered_until_the_file_changes(folder, store):
    (folder / "a" / "bad.jpg").write_bytes(b"nothing")
    fill(folder, store)
    _, rejected, found = fill(folder, store)
    assert (list(rejected), found.read) == (["a/bad.jpg"], 0)
    photo(folder / "a" / "bad.jpg", (1, 2, 3))
    _, rejected, found = fill(folder, store)
    assert (rejected, found.computed) == ({}, 1)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("where", ["PIL.Image.Image.resize", "numpy.asarray", "os.open"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_reason_that_lies_with_the_machine_is_not_remembered(folder, store, monkeypatch, batched, where, error):
    real, times = pydoc.locate(where), iter(range(10**6))

    def once(*arguments, **options):
        if next(times) == 0:
            raise error
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(where, once)
        _, rejected, found = fill(folder, store, MeanColour(batched, threads=1))
    assert (len(rejected), found.computed) == (1, 11)
    assert "emory" in next(iter(rejected.values()))
    rows, rejected, found = fill(folder, store, MeanColour(batched))
    assert (rejected, found.computed) == ({}, 1)
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)


def test_what_one_decoder_cannot_read_another_one_tries_once(folder, store, monkeypatch):
    (folder / "a" / "bad.jpg").write_bytes(b"nothing")
    fill(folder, store)
    assert fill(folder, store)[2].read == 0
    monkeypatch.setattr(computing.decoding, "decoder", lambda: "a newer one")
    assert [fill(folder, store)[2].read for _ in range(2)] == [1, 0]


def test_a_broken_backbone_ends_the_run_and_keeps_what_was_done(folder, store):
    class Breaking(MeanColour):
        def run_batch(self, pixels):
            if self.count >= 5:
                raise ZeroDivisionError
            return super().run_batch(pixels)

    with pytest.raises(ZeroDivisionError):
        fill(folder, store, Breaking(threads=1))
    runner = MeanColour()
    fill(folder, store, runner)
    assert runner.count == 12  # the lot in flight is lost, as a kill would have it
    assert fill(folder, store, runner)[2].computed == 0


def test_a_row_that_another_run_forgets_meanwhile_is_computed(folder, store):
    class Raced(Store):
        def find(self, key):
            row = super().find(key)
            if row is not None:
                store.forget(np.array([row]))
            return row

    fill(folder, store)
    shutil.copytree(folder, folder.parent / "copy")
    runner = MeanColour()
    with Raced(store.folder, dimension=3) as raced:
        rows, rejected, found = fill(folder.parent / "copy", raced, runner)
        assert raced.read(rows) == pytest.approx(expected(folder), abs=1e-4)
    assert (found.computed, runner.count, rejected) == (12, 12, {})


def test_progress_ends_at_the_number_of_images(folder, store):
    seen = []
    fill(folder, store, advance=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def reader(folder, store, runner, distorter=computing.NO_DISTORTIONS):
    rows, _, _ = fill(folder, store)
    extractor = FeatureExtractor(folder, runner, distorter)
    return BottleneckReader(photos(folder), rows, extractor=extractor, store=store), rows


def test_a_reader_fills_the_store_with_what_it_is_asked_for_and_no_more(folder, store):
    runner, seen = MeanColour(), []
    extractor = FeatureExtractor(folder, runner)
    options = {"extractor": extractor, "store": store, "advance": lambda *numbers: seen.append(numbers)}
    read = BottleneckReader.filled(photos(folder), np.array([1, 2, 7]), **options)
    assert (runner.count, seen[-1]) == (3, (3, 3))
    assert read(np.array([7, 1])) == pytest.approx(expected(folder)[[7, 1]], abs=1e-4)
    assert runner.count == 3
    BottleneckReader.filled(photos(folder), np.arange(4), **options)
    assert runner.count == 3 + 2


@pytest.mark.parametrize("is_known", [False, True])
def test_a_reader_that_fills_the_store_names_a_photo_that_it_cannot_read(folder, store, is_known):
    victim = names(folder)[4]
    (folder / victim).write_bytes(b"rubbish")
    if is_known:
        fill(folder, store)
    options = {"extractor": FeatureExtractor(folder, MeanColour()), "store": store, "advance": lambda *numbers: None}
    with pytest.raises(StoreError, match=f"{victim} cannot be read any more: not a JPEG"):
        BottleneckReader.filled(photos(folder), np.arange(12), **options)


def test_a_damaged_vector_is_computed_again(folder, store):
    runner = MeanColour()
    read, rows = reader(folder, store, runner)
    with (store.folder / "vectors.f32").open("r+b") as opened:
        opened.seek(12 * int(rows[4]))
        opened.write(b"\x01\x02\x03")
    assert read(np.arange(12)) == pytest.approx(expected(folder), abs=1e-4)
    assert runner.count == 1
    read(np.arange(12))
    assert runner.count == 1


def test_a_damaged_vector_of_a_lost_image_is_one_clear_error(folder, store):
    read, rows = reader(folder, store, MeanColour())
    victim = names(folder)[4]
    with (store.folder / "vectors.f32").open("r+b") as opened:
        opened.seek(12 * int(rows[4]))
        opened.write(b"\x01\x02\x03")
    (folder / victim).unlink()
    with pytest.raises(StoreError, match=victim):
        read(np.arange(12))


def copies(folder, count=3, seed=0, **distortions):
    distorter = Distorter(Distortions(**(distortions or {"random_brightness": 50})), seed)
    return distorter, [Variant(name, str(number)) for name in names(folder) for number in range(count)]


def fill_copies(folder, store, runner, distorter, wanted):
    extractor = FeatureExtractor(folder, runner, distorter)
    _, todo = computing.missing(wanted, extractor=extractor, store=store)
    found = computing.compute(wanted, todo, extractor=extractor, store=store)
    known, left = computing.missing(wanted, extractor=extractor, store=store)
    assert left == []
    return store.read(known.rows), found


@pytest.mark.parametrize(("batched", "at_once"), WAYS)
def test_distorted_copies_are_computed_once_and_each_from_its_own_pixels(folder, store, batched, at_once):
    distorter, wanted = copies(folder)
    vectors, found = fill_copies(folder, store, MeanColour(batched, at_once=at_once), distorter, wanted)
    assert (found.computed, len(np.unique(vectors, axis=0))) == (36, 36)
    extractor = FeatureExtractor(folder, MeanColour(), distorter)
    assert vectors == pytest.approx(np.stack([p.mean((0, 1)) for p in extractor.pixels(wanted)]), abs=1e-4)
    again = MeanColour(batched)
    fill_copies(folder, store, again, distorter, wanted)
    assert again.count == 0


def test_more_copies_or_plain_photos_cost_only_themselves(folder, store):
    distorter, wanted = copies(folder)
    fill_copies(folder, store, MeanColour(), distorter, wanted)
    runner = MeanColour()
    fill_copies(folder, store, runner, *copies(folder, count=5))
    assert runner.count == 2 * 12
    fill(folder, store, runner)
    assert runner.count == 3 * 12


@pytest.mark.parametrize("change", [{"seed": 1}, {"random_brightness": 40}, {"random_crop": 1}])
def test_other_distortions_or_another_seed_are_other_copies(folder, store, change):
    fill_copies(folder, store, MeanColour(), *copies(folder))
    runner = MeanColour()
    fill_copies(folder, store, runner, *copies(folder, **change))
    assert runner.count == 36


def test_an_unreadable_photo_has_no_copies(folder, store):
    (folder / "a" / "bad.png").write_bytes(b"")
    distorter, wanted = copies(folder)
    extractor = FeatureExtractor(folder, MeanColour(), distorter)
    found = computing.compute(wanted, range(len(wanted)), extractor=extractor, store=store)
    assert found.rejected == {"a/bad.png": "empty file"}
    assert (found.rows == -1).sum() == 3
    assert len(extractor.pixels(wanted)) == len(wanted) - 3


def test_copies_and_the_photo_itself_are_decoded_to_their_own_sizes(folder):
    distorter, _ = copies(folder, random_crop=100)
    extractor = FeatureExtractor(folder, MeanColour(), distorter)
    first, plain, second = extractor.pixels([Variant("a/3.png", copy) for copy in ("0", "", "1")])
    assert np.array_equal(plain, decode((folder / "a/3.png").read_bytes(), height=8, width=8))
    assert first.shape == second.shape == (8, 8, 3)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("batched", [False, True])
def test_copies_that_are_not_stored_differ_at_every_draw_and_not_from_run_to_run(folder, store, batched):
    distorter, _ = copies(folder)
    runner = MeanColour(batched)
    plain, _ = reader(folder, store, runner, distorter)
    drawn = [f"draw {number}" for number in range(4)]
    read = plain.with_copies(np.array([3, 3, 3, 7]), drawn)
    first, second = read(np.array([12, 13, 14, 15])), read(np.array([12, 13, 14, 15]))
    assert np.array_equal(first, second)
    assert len(np.unique(first, axis=0)) == 4
    assert runner.count == 8  # nothing was stored
    wanted = [Variant(names(folder)[n], copy) for n, copy in zip([3, 3, 3, 7], drawn, strict=True)]
    assert np.array_equal(first, compute_now(wanted, FeatureExtractor(folder, MeanColour(), distorter)))
    assert read(np.arange(12)) == pytest.approx(expected(folder), abs=1e-4)
    assert runner.count == 8


def test_stored_photos_and_copies_that_are_not_may_be_read_together(folder, store):
    distorter, _ = copies(folder)
    plain, _ = reader(folder, store, MeanColour(), distorter)
    read = plain.with_copies(np.array([3, 7]), ["draw 0", "draw 1"])
    together = read(np.array([5, 12, 0, 13]))
    assert np.array_equal(together, np.concatenate([read(np.array([n])) for n in (5, 12, 0, 13)]))
    assert together[[0, 2]] == pytest.approx(expected(folder)[[5, 0]], abs=1e-4)


def test_a_photo_that_goes_away_before_its_copy_is_drawn_is_one_clear_error(folder, store):
    distorter, _ = copies(folder)
    plain, _ = reader(folder, store, MeanColour(), distorter)
    victim = names(folder)[3]
    read = plain.with_copies(np.array([3]), ["draw 0"])
    (folder / victim).unlink()
    with pytest.raises(StoreError, match=f"{victim} cannot be read any more"):
        read(np.array([12]))


def test_other_variants_are_computed_and_stored_where_they_are_missing(folder, store):
    distorter, wanted = copies(folder, count=2)
    wanted = sorted([*wanted, *photos(folder)])
    runner, calls = MeanColour(), []
    plain, _ = reader(folder, store, runner, distorter)
    read = plain.of(wanted, lambda *numbers: calls.append(numbers))
    assert runner.count == 24
    assert calls[-1] == (24, 24)
    found = read(np.arange(36))
    assert found[0::3] == pytest.approx(expected(folder), abs=1e-4)
    assert np.array_equal(found, compute_now(wanted, FeatureExtractor(folder, MeanColour(), distorter)))
    assert np.array_equal(plain.of(wanted, lambda *numbers: None)(np.arange(36)), found)
    assert runner.count == 24


def test_of_a_photo_that_went_away_there_are_no_other_variants(folder, store):
    distorter, wanted = copies(folder)
    plain, _ = reader(folder, store, MeanColour(), distorter)
    victim = names(folder)[3]
    (folder / victim).unlink()
    with pytest.raises(StoreError, match=f"{victim} cannot be read any more"):
        plain.of(wanted, lambda *numbers: None)


def test_vectors_of_an_older_cache_are_not_computed(folder, store):
    runner = MeanColour()
    extractor = FeatureExtractor(
        folder, runner, legacy_vector=lambda path: np.full(3, 7, np.float32) if path == "a/3.png" else None
    )
    variants = photos(folder)
    found = computing.compute(variants, range(12), extractor=extractor, store=store)
    assert (found.legacy, found.computed, runner.count) == (1, 11, 11)
    assert store.read(found.rows[[variants.index(Variant("a/3.png"))]]).tolist() == [[7, 7, 7]]
    assert len(extractor.pixels(variants)) == 12


@pytest.mark.parametrize("batched", [False, True])
def test_reading_running_and_storing_are_timed(folder, store, batched):
    extractor = FeatureExtractor(folder, MeanColour(batched))
    for todo in ([], range(12)):
        assert set(extractor.stopwatch.seconds.values()) == {0}
        computing.compute(photos(folder), todo, extractor=extractor, store=store)
    assert list(extractor.stopwatch.seconds) == ["reading", "decoding", "running", "storing"]
    assert min(extractor.stopwatch.seconds.values()) > 0


def test_a_store_of_an_earlier_version_is_used_without_computing(folder, tmp_path):
    """Written byte by byte: names, keys and checksums as they lie on users' disks."""
    distorter = Distorter(Distortions(random_brightness=50), 3)
    wanted = [Variant("a/0.png"), *(Variant("a/1.png", copy) for copy in ("0", "1"))]
    identities = ["", "57af3e179769/3/0", "57af3e179769/3/1"]
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vectors.f32").write_bytes(vectors.tobytes())
    sums = (vectors.view(np.uint32).astype(np.uint64).sum(axis=1) + 0x5EED0F00) % 2**32
    (tmp_path / "old" / "checksums.u32").write_bytes(sums.astype(np.uint32).tobytes())
    index = sqlite3.connect(tmp_path / "old" / "index.sqlite", isolation_level=None)
    index.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID")
    index.execute("CREATE TABLE folders (id INTEGER PRIMARY KEY, path BLOB UNIQUE NOT NULL)")
    index.execute(
        "CREATE TABLE files (folder INTEGER, name BLOB, size INTEGER, modified INTEGER, changed INTEGER, row INTEGER,"
        " reason TEXT, PRIMARY KEY (folder, name)) WITHOUT ROWID"
    )
    index.execute("CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), rows INTEGER NOT NULL)")
    index.execute("INSERT INTO counter VALUES (0, 3)")
    index.execute("INSERT INTO folders VALUES (1, ?)", (os.fsencode(folder.resolve()),))
    for row, ((path, _), identity) in enumerate(zip(wanted, identities, strict=True)):
        name, status = path.encode(), (folder / path).stat()
        content = hashlib.sha256((folder / path).read_bytes()).digest()
        key = hashlib.sha256(content + identity.encode()).digest() if identity else content
        name += b"\0" + identity.encode() if identity else b""
        index.execute("INSERT INTO vectors VALUES (?, ?)", (key[:16], row))
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        index.execute("INSERT INTO files VALUES (1, ?, ?, ?, ?, ?, NULL)", (name, *stamp, row))
    runner = MeanColour()
    extractor = FeatureExtractor(folder, runner, distorter)
    with Store(tmp_path / "old", dimension=3) as store:
        known, todo = computing.missing(wanted, extractor=extractor, store=store)
        assert (known.rows.tolist(), todo) == ([0, 1, 2], [])
        assert np.array_equal(store.read(known.rows), vectors)
        # Files that look changed are read again, and their keys are still known.
        index.execute("UPDATE files SET modified = modified - 1")
        known, todo = computing.missing(wanted, extractor=extractor, store=store)
        assert todo == [0, 1, 2]
        found = computing.compute(wanted, todo, extractor=extractor, store=store)
        assert (found.rows.tolist(), found.computed, runner.count) == ([0, 1, 2], 0, 0)
    index.close()


def test_photos_that_are_decoded_otherwise_today_are_computed_again_alone(folder, store):
    picture = Image.new("RGB", (8, 8), (200, 0, 0))
    picture.save(folder / "a" / "key.png", transparency=(200, 0, 0))
    picture.save(folder / "a" / "scan.tif")
    picture.save(folder / "a" / "photo.jpg")
    by_version_1 = [
        Entry(name, Stamp.of((folder / name).stat()), hashlib.sha256((folder / name).read_bytes()).digest(), vector)
        for name, vector in zip(names(folder), expected(folder), strict=True)
    ]
    store.put(folder, by_version_1)
    runner = MeanColour()
    extractor = FeatureExtractor(folder, runner)
    _, todo = computing.missing(photos(folder), extractor=extractor, store=store)
    assert [names(folder)[index] for index in todo] == ["a/key.png", "a/scan.tif"]
    computing.compute(photos(folder), todo, extractor=extractor, store=store)
    assert runner.count == 2
    assert extractor.renewed == {"a/key.png", "a/scan.tif"}
    rows, _, found = fill(folder, store, runner)
    assert (runner.count, found.read) == (2, 0)
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)
