"""Engines and precisions: which combinations there are, and that they agree."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import cosines, loaded

from retrain import export
from retrain.backbones import catalogue, engines, measuring, processor, quantized, runner
from retrain.backbones.engines import EngineRequest
from retrain.backbones.measuring import Measurement
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource
from retrain.errors import BackboneError, UsageError

needs_openvino = pytest.mark.skipif(not engines.is_installed("openvino"), reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return loaded("mobilenet_bundled", tmp_path_factory.mktemp("backbone"), height=64, width=64)


def vectors(backbone, engine, precision="float32"):
    run = BackboneRunner(backbone, print, engine=engine, precision=precision).runner()
    picture = export.probe_image(*backbone.input.size)
    return np.stack([run(picture), run(picture[::-1]), run(picture // 2)])


def test_an_engine_that_lacks_a_precision_is_refused():
    for engine, precision in (("litert", "bfloat16"), ("tensorflow", "bfloat16"), ("tensorflow", "int8")):
        with pytest.raises(UsageError, match=f"--engine {engine} does not compute in {precision}"):
            EngineRequest(engine, precision)
    assert EngineRequest("auto", "bfloat16").names == ("openvino",)
    assert EngineRequest("openvino", "int8").names == ("openvino",)
    assert EngineRequest().names[0] == "litert"


@needs_openvino
def test_openvino_gives_in_float32_what_litert_gives(backbone):
    ours, theirs = vectors(backbone, "openvino"), vectors(backbone, "litert")
    assert ours == pytest.approx(theirs, abs=1e-4 * float(np.abs(theirs).max()))


@needs_openvino
def test_bfloat16_differs_from_float32_and_only_a_little(backbone):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(BackboneError, match="does not compute in bfloat16"):
            vectors(backbone, "openvino", "bfloat16")
        return
    ours, theirs = vectors(backbone, "openvino", "bfloat16"), vectors(backbone, "litert")
    assert not np.allclose(ours, theirs, rtol=1e-4)
    assert cosines(ours, theirs).min() > 0.97


def test_one_network_runs_in_many_threads_at_once(backbone):
    from concurrent.futures import ThreadPoolExecutor

    pictures = quantized.drawn_images(28, *backbone.input.size)
    cases = [("litert", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")]
    for engine, precision in cases:
        if not engines.is_installed(engine) or (precision == "bfloat16" and "bfloat16" not in processor.gains()):
            continue
        found = BackboneRunner(backbone, print, engine=engine, precision=precision)
        runs = [found.runner_of_several() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            at_once = list(pool.map(lambda n, runs=runs: list(runs[n](pictures[n::4])), range(4)))
        run = found.runner()
        assert np.array_equal(at_once, [[run(each) for each in pictures[n::4]] for n in range(4)])


def test_an_engine_that_gives_other_features_is_refused():
    expected = np.random.default_rng(0).random(100, np.float32)
    for exact, vector in ((True, expected * 1.01), (False, expected[::-1] - 0.4), (False, expected * np.nan)):
        with pytest.raises(BackboneError, match=r"OpenVINO gives other features than LiteRT .* --engine litert"):
            runner._check_agreement(vector, expected, exact=exact)
    runner._check_agreement(expected + 1e-4, expected, exact=True)
    runner._check_agreement(expected * 1.01, expected, exact=False)
    runner._check_agreement(expected * 0, expected * 0, exact=False)


@pytest.mark.slow
def test_the_8_bit_form_is_made_once_and_resembles_the_network(backbone):
    spec = catalogue.find("mobilenet_bundled")
    source = BackboneSource(spec, "weights", "0" * 64)
    told, pictures = [], quantized.drawn_images(3, *backbone.input.size)
    fail = lambda: pytest.fail("a named network is calibrated on the photos")  # noqa: E731
    path = quantized.int8_model(backbone, source, fail, told.append)
    content = path.read_bytes()
    assert quantized.int8_model(backbone, source, fail, told.append) == path
    assert told == ["Making the 8-bit form of mobilenet_bundled from drawn images, once."]
    for engine in filter(engines.is_installed, ("litert", "openvino")):
        assert cosines(vectors(backbone, engine, "int8"), vectors(backbone, "litert")).min() > 0.9
    # A damaged one is made again, and is the same.
    path.write_bytes(content[:-1000])
    quantized.int8_model(backbone, source, fail, told.append)
    assert path.read_bytes() == content
    # The network of a file is calibrated on photos, which is what its form then depends on.
    path.unlink()
    file = replace(source, spec=catalogue.BackboneSpec("mine.pb", catalogue.Kind.GRAPH_FILE))
    quantized.int8_model(backbone, file, lambda: [picture // 4 for picture in pictures], told.append)
    assert told[2:] == ["Making the 8-bit form of mobilenet_bundled from the photos, once."]
    assert path.read_bytes() != content


def test_the_drawn_images_are_the_same_everywhere():
    pictures = quantized.drawn_images(2, 30, 20)
    assert [picture.shape for picture in pictures] == [(30, 20, 3)] * 2
    assert hashlib.sha256(np.stack(pictures) // 8).hexdigest().startswith("a8525a6204c1ba33")
    assert not np.array_equal(*pictures)


def test_what_a_processor_gains_by_is_in_its_flags(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPU_INFO", info)
    assert (processor.gains(), processor.prospects()) == ({}, "")  # no Linux
    info.write_text("model name\t: A B\nflags\t\t: fpu sse2 avx2\n")
    assert (processor.gains(), processor.prospects()) == ({}, "")
    info.write_text("model name\t: A B\nflags\t\t: fpu avx512_bf16 avx512_vnni amx_bf16\n")
    assert processor.gains() == {"bfloat16": 3.0, "int8": 2.0}
    assert processor.prospects() == (
        "On this processor, --precision bfloat16 is about 3 times as fast (AMX) and --precision int8 is about 2 times "
        "as fast (VNNI): expect less exact features, and accuracy much the same."
    )


def test_an_engine_before_the_fastest_is_chosen_where_it_is_as_good():
    assert Measurement({"litert": 97, "openvino": 100}).choice == "litert"
    assert Measurement({"litert": 90, "openvino": 100}).choice == "openvino"
    assert str(Measurement({"litert": 20, "openvino": 31})) == "OpenVINO runs it, 31 photos a second, LiteRT 20"


def test_what_was_measured_is_remembered_for_this_processor_and_precision(tmp_path, monkeypatch):
    assert measuring.remembered(tmp_path, "float32") is None
    measuring.remember(tmp_path, "float32", Measurement({"litert": 20.0, "openvino": 31.0}))
    measuring.remember(tmp_path, "int8", Measurement({"litert": 50.0}))
    assert measuring.remembered(tmp_path, "float32").choice == "openvino"
    assert measuring.remembered(tmp_path, "int8").choice == "litert"
    assert measuring.remembered(tmp_path, "bfloat16") is None
    monkeypatch.setattr("retrain.backbones.processor.name", lambda: "another processor")
    assert measuring.remembered(tmp_path, "float32") is None
    measuring.remember(tmp_path, "float32", Measurement({"litert": 40.0, "openvino": 31.0}))
    assert measuring.remembered(tmp_path, "float32").choice == "litert"
    monkeypatch.undo()
    assert measuring.remembered(tmp_path, "float32").choice == "openvino"
    for damaged in ("[]", "{", '{"a": 1}', "null"):
        (tmp_path / "engines.json").write_text(damaged)
        assert measuring.remembered(tmp_path, "float32") is None
        measuring.remember(tmp_path, "float32", Measurement({"litert": 1.0}))
        assert measuring.remembered(tmp_path, "float32").choice == "litert"


def test_a_measurement_runs_every_engine(backbone):
    names = [name for name in ("litert", "openvino", "tensorflow") if engines.is_installed(name)]
    runners = {name: BackboneRunner(backbone, print, engine=name) for name in names}
    measured = measuring.measure(runners, quantized.drawn_images(3, *backbone.input.size))
    assert list(measured.rates) == names
    assert min(measured.rates.values()) > 0
