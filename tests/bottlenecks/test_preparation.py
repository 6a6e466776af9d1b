import io
import logging
import re
from contextlib import ExitStack
from dataclasses import replace

from conftest import colour_folder, photo

from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks import legacy_cache
from retrain.bottlenecks.legacy_cache import LegacyCache
from retrain.bottlenecks.preparation import PreparationSettings, _warn_of_rejected, match_legacy_cache, prepare
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter
from retrain.terminal import Terminal


def test_many_skipped_images_are_named_up_to_ten():
    err = io.StringIO()
    _warn_of_rejected({f"{i}.jpg": "empty file" for i in range(25)}, Terminal(out=io.StringIO(), err=err))
    lines = err.getvalue().splitlines()
    assert len(lines) == 11
    assert "15 more" in lines[-1]


def test_the_closing_line_counts_photos_and_the_detail_times_the_parts(tmp_path, mean_colour_backbone):
    photos = colour_folder(tmp_path / "photos", per_class=4)
    spec = replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour")
    source = families.locate(spec, WeightsRequest(tmp_path))
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
    timed = r"Reading and decoding took \d+\.\d s and running the backbone \d+\.\d s, in all threads together; storing"
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
