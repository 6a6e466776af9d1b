import hashlib
import io
import logging
import os
import re
import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest
from conftest import colour_folder, photo

from retrain import files
from retrain.backbones import catalogue
from retrain.bottlenecks import legacy_cache, preparation
from retrain.bottlenecks.legacy_cache import LegacyCache
from retrain.bottlenecks.preparation import (
    PreparationSettings,
    _warn_of_rejected,
    describe_split,
    match_legacy_cache,
    prepare,
)
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import Split, SplitRule
from retrain.data.variants import Distorter
from retrain.terminal import Terminal


def test_many_skipped_images_are_named_up_to_ten():
    err = io.StringIO()
    _warn_of_rejected({f"{i}.jpg": "empty file" for i in range(25)}, Terminal(out=io.StringIO(), err=err))
    lines = err.getvalue().splitlines()
    assert len(lines) == 11
    assert "15 more" in lines[-1]


def test_the_closing_line_counts_photos_and_the_detail_times_the_parts(tmp_path, source):
    photos = colour_folder(tmp_path / "photos", per_class=4)
    plain = PreparationSettings(tmp_path / "bottlenecks", Distorter(Distortions(), 0))
    distorted = replace(plain, distorter=Distorter(Distortions(random_brightness=50), 0), copies=2)

    def line(settings, level=logging.INFO, legacy=None):
        out, err = io.StringIO(), io.StringIO()
        terminal = Terminal(out=out, err=err, level=level)
        with ExitStack() as opened:
            prepare(scan(photos), source, settings, legacy, terminal=terminal, opened=opened)
        return (out if level == logging.INFO else err).getvalue()

    assert line(plain) == "Features for 12 photos: 12 computed, 0 from the cache.\n"
    assert line(plain) == "Features for 12 photos: all from the cache.\n"
    photo(photos / "cyan" / "new.png", (1, 2, 3))
    (photos / "cyan" / "bad.png").write_bytes(b"")
    assert line(plain) == "Features for 13 photos: 1 computed, 12 from the cache; 1 file skipped.\n"
    (photos / "cyan" / "bad.png").unlink()
    assert line(distorted).startswith("Features for 13 photos (2 distorted copies of each training photo): ")
    timed = r"Reading took \d+\.\d s, decoding \d+\.\d s and running the backbone \d+\.\d s, in all threads together"
    assert re.search(timed, line(plain, logging.DEBUG))
    # Three numbers a photo, as the original wrote them.
    for path in photos.rglob("*.png"):
        name = tmp_path / "old" / f"{path.relative_to(photos)}_net.txt"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text("1,2,3")
    paths = [example.path for example in scan(photos).examples]
    legacy = legacy_cache.find(tmp_path / "old", photos, paths, "net")
    text = line(replace(plain, bottleneck_dir=tmp_path / "old"), legacy=legacy)
    assert text == (
        "Features for 13 photos: all from the cache.\n"
        f"13 features read from the original's .txt files in {tmp_path / 'old'}.\n"
    )


def test_what_killed_runs_left_goes_with_the_next_run_that_is_alone(tmp_path, source):
    photos = colour_folder(tmp_path / "photos", per_class=4)
    settings = PreparationSettings(tmp_path / "bottlenecks", Distorter(Distortions(), 0))

    def run(opened):
        prepare(scan(photos), source, settings, None, terminal=Terminal(quiet=True), opened=opened)

    with ExitStack() as opened:
        run(opened)
    store = tmp_path / "bottlenecks" / source.folder_name
    kept = {path.name for path in store.iterdir()}
    (store / "fine_tuned_x" / "inside").mkdir(parents=True)
    (store / "below_layer").mkdir()
    left = [store / "fine_tuned_x", store / ".backbone.pb.17", store / "below_layer" / ".backbone.tflite.17"]
    for path in left:
        (path / "backbone.pb" if path.is_dir() else path).write_bytes(b"half")
    other = tmp_path / "bottlenecks" / "fine_tuned_photos"
    other.mkdir()
    fcntl = pytest.importorskip("fcntl")
    with ExitStack() as first:
        lock = os.open(store / preparation.LOCK_FILE, os.O_RDWR)  # as another process that works there
        first.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with ExitStack() as second:
            run(second)
        assert all(path.exists() for path in left)
    with ExitStack() as alone:
        run(alone)
        assert kept <= {path.name for path in store.iterdir()}
        assert not any(path.exists() for path in left)
        assert other.exists()
        left[0].mkdir()  # of the run that goes on
        with ExitStack() as second:
            run(second)
        assert left[0].exists()


def test_a_result_may_be_put_into_the_folder_of_a_store_in_use(tmp_path, source):
    dataset = scan(colour_folder(tmp_path / "photos", per_class=4))
    settings = PreparationSettings(tmp_path / "bottlenecks", Distorter(Distortions(), 0))
    (tmp_path / "draft").write_text("whole")
    with ExitStack() as opened:
        folder = prepare(dataset, source, settings, None, terminal=Terminal(quiet=True), opened=opened).folder
        for result in (folder / "g.pb", tmp_path / "bottlenecks" / "g.pb"):
            putting = threading.Thread(target=files.put_in_place, args=[[(tmp_path / "draft", result)]], daemon=True)
            putting.start()
            putting.join(60)
            assert not putting.is_alive()
            assert result.read_text() == "whole"


def test_the_originals_cut_is_taken_where_most_photos_have_its_bottlenecks(tmp_path):
    spec = catalogue.find("mobilenet_0.25_128")
    terminal = Terminal(quiet=True)

    def cut(count, dimension=spec.original_dimension):
        files = {f"{n}.jpg": tmp_path / f"{n}.txt" for n in range(count)}
        legacy = LegacyCache(tmp_path, tmp_path, files, dimension) if count else None
        return match_legacy_cache(spec, legacy, 10, terminal).target

    assert [cut(count) for count in (0, 5, 6)] == [spec.target, spec.target, spec.original_target]
    assert cut(6, dimension=spec.original_dimension + 1) == spec.target
    assert spec.target != spec.original_target


@pytest.mark.parametrize("copies", [0, 3])
def test_a_model_knows_the_photos_that_it_was_trained_on(tmp_path, source, monkeypatch, copies):
    photos = colour_folder(tmp_path / "photos", per_class=12)
    (photos / "white" / "only.png").parent.mkdir()
    photo(photos / "white" / "only.png", (255, 255, 255))
    rule = SplitRule(10, 30)
    dataset = scan(photos, rule)
    distorter = Distorter(Distortions(random_brightness=50 if copies else 0), 0)
    settings = PreparationSettings(tmp_path / "bottlenecks", distorter, copies=copies)
    with ExitStack() as opened:
        terminal = Terminal(quiet=True)
        prepared = prepare(dataset, source, settings, None, terminal=terminal, opened=opened)
        split, grouped = describe_split(prepared, rule), describe_split(prepared, rule, "exif")
        monkeypatch.setattr(preparation, "_NAMED_IN_MODEL", 10)
        of_many, many_grouped = describe_split(prepared, rule), describe_split(prepared, rule, "exif")

    def known(split):
        hashed = {e: hashlib.sha256((photos / e.path).read_bytes()).digest() for e in dataset.examples}
        return {example for example, content in hashed.items() if split.trained_on(content)}

    assert (split.validation, split.testing, split.folders) == (10, 30, False)
    assert known(split) == {example for example in dataset.examples if example.split is Split.TRAINING}
    assert {example.path for example in known(of_many)} == {"white/only.png"}
    held_out = {example.path: str(example.split) for example in dataset.examples if example.split is not Split.TRAINING}
    assert {e.path: grouped.held_out(e.path) for e in dataset.examples if grouped.held_out(e.path)} == held_out
    assert not split.knows_held_out
    assert not many_grouped.knows_held_out


def test_a_photo_that_was_there_twice_and_held_out_once_is_not_left_out(tmp_path, source):
    photos = colour_folder(tmp_path / "photos", per_class=12)
    rule = SplitRule(10, 30)
    training, testing = (
        next(example.path for example in scan(photos, rule).examples if example.split is split)
        for split in (Split.TRAINING, Split.TESTING)
    )
    content = (photos / testing).read_bytes()
    (photos / training).write_bytes(content)
    settings = PreparationSettings(tmp_path / "bottlenecks", Distorter(Distortions(), 0))
    with ExitStack() as opened:
        terminal = Terminal(quiet=True)
        prepared = prepare(scan(photos, rule), source, settings, None, terminal=terminal, opened=opened)
        assert not describe_split(prepared, rule).trained_on(hashlib.sha256(content).digest())
