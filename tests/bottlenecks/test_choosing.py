"""Which engine computes the bottlenecks, and which store they are in."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import cosines
from builders import terminal
from conftest import colour_folder, photo

from retrain.backbones import catalogue, engines, families, measuring
from retrain.backbones.engines import EngineRequest
from retrain.backbones.measuring import Measurement
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks import choosing
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.data.variants import Distorter

needs_openvino = pytest.mark.skipif(not engines.is_installed("openvino"), reason="OpenVINO is not installed")


@pytest.fixture
def photos(tmp_path):
    return colour_folder(tmp_path / "photos", per_class=12)


@pytest.fixture
def bundled(tmp_path):
    """A network whose 8-bit form differs."""
    spec = catalogue.find("mobilenet_bundled")
    spec = replace(spec, input=replace(spec.input, height=32, width=32))
    return families.locate(spec, WeightsRequest(tmp_path))


def opened_by(opened, photos, source, engine="auto", precision="float32"):
    """Return what is prepared, open for a while, and what was printed."""
    shown, out, _ = terminal()
    request = EngineRequest(engine, precision)
    settings = PreparationSettings(photos.parent / "bottlenecks", Distorter(Distortions(), 0), request=request)
    return prepare(scan(photos), source, settings, None, terminal=shown, opened=opened), out.getvalue()


def prepared(photos, source, engine="auto", precision="float32"):
    """Return what is prepared, its vectors and what was printed."""
    with ExitStack() as opened:
        found, text = opened_by(opened, photos, source, engine, precision)
        return found, found.read(np.arange(len(found.variants.rows))), text


def remember(photos, source, **rates):
    home = photos.parent / "bottlenecks" / source.folder_name
    home.mkdir(parents=True, exist_ok=True)
    measuring.remember(home, "float32", Measurement(rates))


def test_few_photos_are_not_worth_a_measurement(photos, source):
    found, _, text = prepared(photos, source)
    assert found.folder.name == source.folder_name
    assert text == "Features for 36 photos: 36 computed, 0 from the cache.\n"


@needs_openvino
def test_the_engine_is_measured_once_and_said_in_one_line(photos, source, monkeypatch):
    monkeypatch.setattr(choosing, "_WORTH_MEASURING", 36)
    found, vectors, text = prepared(photos, source)
    lines = [line for line in text.splitlines() if "runs it, " in line]
    assert len(lines) == 1
    assert "(measured once; --engine rules)" in lines[0]
    rates = measuring.remembered(found.backbone.graph.parent, "float32").rates
    assert list(rates) == ["litert", "openvino"]
    again, same, text = prepared(photos, source)
    assert text == "Features for 36 photos: all from the cache.\n"
    assert again.folder == found.folder
    assert np.array_equal(same, vectors)


@needs_openvino
def test_what_was_measured_rules_a_new_store_and_a_filled_one_rules_what_was_measured(photos, source):
    litert, theirs, _ = prepared(photos, source)
    remember(photos, source, litert=1.0, openvino=2.0)
    assert prepared(photos, source)[0].folder == litert.folder
    # Of many new photos, it has less than half.
    for path in list(photos.glob("*/*.png")):
        for number in range(2):
            photo(path.with_name(f"new_{number}_{path.name}"), (number * 100, 50, 7), seed=number)
    openvino, ours, text = prepared(photos, source)
    assert openvino.folder != litert.folder
    assert text.startswith(f"Features for {len(ours)} photos: ")
    names = [row.path for row in openvino.variants.rows]
    rows = [names.index(row.path) for row in litert.variants.rows]
    assert ours[rows] == pytest.approx(theirs, abs=1e-3 * float(np.abs(theirs).max()))
    assert openvino.backbone == litert.backbone
    # What was measured elsewhere does not rule the store that is there.
    remember(photos, source, litert=2.0, openvino=1.0)
    assert prepared(photos, source)[0].folder == openvino.folder


@needs_openvino
def test_a_moved_folder_keeps_its_store(photos, source):
    litert, _, _ = prepared(photos, source)
    remember(photos, source, litert=1.0, openvino=2.0)
    moved = photos.rename(photos.with_name("moved"))
    found, _, text = prepared(moved, source)
    assert found.folder == litert.folder
    assert text == "Features for 36 photos: all from the cache.\n"


@needs_openvino
def test_of_two_stores_that_have_all_photos_the_first_rules_whatever_else_the_other_has(photos, source):
    first, vectors, _ = prepared(photos, source)
    more = photo(photos / "cyan" / "more.png", (0, 255, 255), seed=99)
    prepared(photos, source, engine="openvino")
    more.unlink()
    again, same, _ = prepared(photos, source)
    assert again.folder == first.folder
    assert np.array_equal(same, vectors)


def test_what_was_measured_is_nothing_worth_without_the_engine(photos, source, monkeypatch):
    remember(photos, source, litert=1.0, openvino=2.0)
    monkeypatch.setattr(choosing, "is_installed", lambda engine: engine != "openvino")
    assert prepared(photos, source)[0].folder.name == source.folder_name


@needs_openvino
def test_the_flag_rules_everything(photos, source):
    remember(photos, source, litert=1.0, openvino=2.0)
    assert prepared(photos, source, "litert")[0].folder.name == source.folder_name
    assert prepared(photos, source, "openvino")[0].folder.name != source.folder_name
    assert prepared(photos, source, "tensorflow")[0].folder.name == source.folder_name


@needs_openvino
def test_a_filled_store_starts_no_engine(photos, source, monkeypatch):
    prepared(photos, source, "openvino")
    monkeypatch.setattr("retrain.backbones.runner.OpenVINONetwork", lambda *a, **k: pytest.fail("started"))
    monkeypatch.setattr("retrain.backbones.runner.Runner", lambda *a, **k: pytest.fail("started"))
    assert prepared(photos, source)[2] == "Features for 36 photos: all from the cache.\n"


@pytest.mark.slow
def test_lower_precisions_have_stores_of_their_own_and_the_test_photos_are_in_float32_too(photos, bundled):
    exact, theirs, _ = prepared(photos, bundled, "litert")
    folders = {exact.folder}
    ways = [("litert", "int8"), *[("openvino", each) for each in ("int8", "bfloat16") if computes_in(each)]]
    for way in ways:
        with ExitStack() as opened:
            found, _ = opened_by(opened, photos, bundled, *way)
            ours = found.read(np.arange(len(theirs)))
            testing = found.variants.members[Split.TESTING]
            assert np.array_equal(found.read_exactly(testing), theirs[testing])
        folders.add(found.folder)
        assert not np.array_equal(ours, theirs)
        assert cosines(ours, theirs).min() > 0.9
    assert len(folders) == 1 + len(ways)


def computes_in(precision):
    """Return whether OpenVINO is here and has a precision on this processor."""
    if not engines.is_installed("openvino"):
        return False
    import openvino

    return precision != "bfloat16" or "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
