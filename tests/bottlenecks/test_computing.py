import os
import shutil
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from conftest import photo

from retrain.bottlenecks import computing, reading
from retrain.bottlenecks.store import Store
from retrain.data.decoding import decode
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter
from retrain.errors import StoreError


@dataclass
class MeanColour:
    """An engine whose bottleneck is the mean colour, and which counts the images that it ran."""

    batched: bool = False
    height: int = 8
    width: int = 8
    threads: int = 3
    ran: list = field(default_factory=list)

    def runner(self):
        owner = []

        def run(pixels):
            owner.append(threading.get_ident())
            assert len(set(owner)) == 1, "one runner served two threads"
            return self.run_batch(pixels[None])[0]

        return run

    def run_batch(self, pixels):
        self.ran.append(len(pixels))
        return pixels.mean(axis=(1, 2)).astype(np.float32)

    @property
    def count(self):
        return sum(self.ran)


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


def fill(folder, store, engine=None, **options):
    engine = engine or MeanColour()
    paths = names(folder)
    known, todo = computing.missing(paths, image_dir=folder, store=store)
    found = computing.compute(paths, todo, source=computing.FeatureExtractor(folder, engine), store=store, **options)
    rejected = known.rejected | found.rejected
    return np.maximum(known.rows, found.rows), rejected, found


def expected(folder):
    return np.stack([decode((folder / name).read_bytes(), height=8, width=8).mean((0, 1)) for name in names(folder)])


@pytest.mark.parametrize("batched", [False, True])
def test_every_image_gets_its_own_vector(folder, store, batched):
    rows, rejected, found = fill(folder, store, MeanColour(batched))
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)
    assert (found.computed, found.read, rejected) == (12, 12, {})


def test_a_second_run_computes_nothing_and_opens_no_image(folder, store):
    first, _, _ = fill(folder, store)
    engine = MeanColour()
    second, _, found = fill(folder, store, engine)
    assert np.array_equal(first, second)
    assert (engine.count, found.read) == (0, 0)


def test_replacing_one_image_recomputes_exactly_one(folder, store):
    fill(folder, store)
    photo(folder / "a" / "3.png", (9, 200, 30), seed=99)
    engine = MeanColour()
    rows, _, found = fill(folder, store, engine)
    assert (engine.count, found.read) == (1, 1)
    assert store.read(rows) == pytest.approx(expected(folder), abs=1e-4)


def test_a_new_class_computes_only_its_own(folder, store):
    fill(folder, store)
    photo(folder / "b" / "1.png", (1, 2, 3))
    engine = MeanColour()
    fill(folder, store, engine)
    assert engine.count == 1


def test_moving_the_folder_reads_but_computes_nothing(folder, store, tmp_path):
    fill(folder, store)
    folder.rename(tmp_path / "moved")
    engine = MeanColour()
    _, _, found = fill(tmp_path / "moved", store, engine)
    assert (engine.count, found.read, found.computed) == (0, 12, 0)


def test_a_copy_of_an_image_shares_its_vector(folder, store):
    fill(folder, store)
    shutil.copy(folder / "a" / "1.png", folder / "a" / "copy.png")
    engine = MeanColour()
    rows, _, _ = fill(folder, store, engine)
    assert engine.count == 0
    assert rows[names(folder).index("a/1.png")] == rows[names(folder).index("a/copy.png")]


@pytest.mark.parametrize("batched", [False, True])
def test_bad_files_are_rejected_with_a_reason_and_cost_nothing_else(folder, store, batched):
    (folder / "a" / "empty.jpg").write_bytes(b"")
    (folder / "a" / "notes.txt").write_text("hello")
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "a" / "pipe.jpg")
    (folder / "a" / "gone.jpg").symlink_to(folder / "nowhere")
    paths = sorted({*names(folder), "a/gone.jpg"})
    engine = MeanColour(batched)
    found = computing.compute(paths, range(len(paths)), source=computing.FeatureExtractor(folder, engine), store=store)
    assert engine.count == 12
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


def test_a_broken_engine_ends_the_run_and_keeps_what_was_done(folder, store):
    class Breaking(MeanColour):
        def run_batch(self, pixels):
            if self.count >= 5:
                raise ZeroDivisionError
            return super().run_batch(pixels)

    with pytest.raises(ZeroDivisionError):
        fill(folder, store, Breaking(threads=1))
    engine = MeanColour()
    fill(folder, store, engine)
    assert engine.count == 12  # the lot in flight is lost, as a kill would have it
    assert fill(folder, store, engine)[2].computed == 0


def test_progress_ends_at_the_number_of_images(folder, store):
    seen = []
    fill(folder, store, advance=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)


def reader(folder, store, engine):
    rows, _, _ = fill(folder, store)
    return reading.Reader(names(folder), rows, source=computing.FeatureExtractor(folder, engine), store=store), rows


def test_a_damaged_vector_is_computed_again(folder, store):
    engine = MeanColour()
    read, rows = reader(folder, store, engine)
    with (store.folder / "vectors.f32").open("r+b") as opened:
        opened.seek(12 * int(rows[4]))
        opened.write(b"\x01\x02\x03")
    assert read(np.arange(12)) == pytest.approx(expected(folder), abs=1e-4)
    assert engine.count == 1
    read(np.arange(12))
    assert engine.count == 1


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
    copier = Distorter(Distortions(**(distortions or {"random_brightness": 50})), seed)
    return copier, [copier.name(name, str(number)) for name in names(folder) for number in range(count)]


def fill_copies(folder, store, engine, copier, wanted):
    _, todo = computing.missing(wanted, image_dir=folder, store=store)
    source = computing.FeatureExtractor(folder, engine, copier)
    found = computing.compute(wanted, todo, source=source, store=store)
    known, left = computing.missing(wanted, image_dir=folder, store=store)
    assert left == []
    return store.read(known.rows), found


@pytest.mark.parametrize("batched", [False, True])
def test_distorted_copies_are_made_once_and_are_those_that_their_names_say(folder, store, batched):
    copier, wanted = copies(folder)
    vectors, found = fill_copies(folder, store, MeanColour(batched), copier, wanted)
    assert (found.computed, len(np.unique(vectors, axis=0))) == (36, 36)
    source = computing.FeatureExtractor(folder, MeanColour(), copier)
    assert vectors == pytest.approx(np.stack([p.mean((0, 1)) for p in source.pictures(wanted)]), abs=1e-4)
    again = MeanColour(batched)
    fill_copies(folder, store, again, copier, wanted)
    assert again.count == 0


def test_more_copies_or_plain_pictures_cost_only_themselves(folder, store):
    copier, wanted = copies(folder)
    fill_copies(folder, store, MeanColour(), copier, wanted)
    engine = MeanColour()
    fill_copies(folder, store, engine, *copies(folder, count=5))
    assert engine.count == 2 * 12
    fill(folder, store, engine)
    assert engine.count == 3 * 12


@pytest.mark.parametrize("change", [{"seed": 1}, {"random_brightness": 40}, {"random_crop": 1}])
def test_other_distortions_or_another_seed_are_other_copies(folder, store, change):
    fill_copies(folder, store, MeanColour(), *copies(folder))
    engine = MeanColour()
    fill_copies(folder, store, engine, *copies(folder, **change))
    assert engine.count == 36


def test_an_unreadable_photo_has_no_copies(folder, store):
    (folder / "a" / "bad.png").write_bytes(b"")
    copier, wanted = copies(folder)
    found = computing.compute(
        wanted, range(len(wanted)), source=computing.FeatureExtractor(folder, MeanColour(), copier), store=store
    )
    assert found.rejected == {"a/bad.png": "empty file"}
    assert (found.rows == -1).sum() == 3


@pytest.mark.parametrize("batched", [False, True])
def test_fresh_copies_differ_at_every_draw_and_not_from_run_to_run(folder, store, batched):
    rows, _, _ = fill(folder, store)
    copier, _ = copies(folder)
    source = computing.FeatureExtractor(folder, MeanColour(batched), copier)
    plain = reading.Reader(names(folder), rows, source=source, store=store)
    drawn = np.array([3, 3, 3, 7])
    first, second = (
        reading.FreshReader(plain, names(folder), drawn, source=source)(np.array([12, 13, 14, 15])) for _ in range(2)
    )
    assert np.array_equal(first, second)
    assert len(np.unique(first, axis=0)) == 4
    read = reading.FreshReader(plain, names(folder), drawn, source=source)
    assert read(np.arange(12)) == pytest.approx(expected(folder), abs=1e-4)


def test_a_photo_that_goes_away_during_fresh_draws_is_one_clear_error(folder, store):
    rows, _, _ = fill(folder, store)
    copier, _ = copies(folder)
    source = computing.FeatureExtractor(folder, MeanColour(), copier)
    plain = reading.Reader(names(folder), rows, source=source, store=store)
    (folder / names(folder)[3]).unlink()
    gone = [*names(folder)[:3], "a/gone.png", *names(folder)[3:]]
    with pytest.raises(StoreError, match="gone.png cannot be read any more"):
        reading.FreshReader(plain, gone, np.array([3]), source=source)(np.array([12]))


def test_what_an_older_cache_knows_is_not_computed(folder, store):
    engine = MeanColour()
    source = computing.FeatureExtractor(
        folder, engine, recall=lambda path: np.full(3, 7, np.float32) if path == "a/3.png" else None
    )
    paths = names(folder)
    found = computing.compute(paths, range(12), source=source, store=store)
    assert (found.recalled, found.computed, engine.count) == (1, 11, 11)
    assert store.read(found.rows[[paths.index("a/3.png")]]).tolist() == [[7, 7, 7]]


def test_plain_pictures_and_fresh_draws_may_be_read_together(folder, store):
    rows, _, _ = fill(folder, store)
    copier, _ = copies(folder)
    source = computing.FeatureExtractor(folder, MeanColour(), copier)
    plain = reading.Reader(names(folder), rows, source=source, store=store)
    read = reading.FreshReader(plain, names(folder), np.array([3, 7]), source=source)
    together = read(np.array([5, 12, 0, 13]))
    assert np.array_equal(together, np.concatenate([read(np.array([n])) for n in (5, 12, 0, 13)]))
    assert together[[0, 2]] == pytest.approx(expected(folder)[[5, 0]], abs=1e-4)
