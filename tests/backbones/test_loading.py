from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import assert_works, in_tensorflow, loaded
from builders import small_keras

from retrain.backbones import catalogue, families, loading
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import WeightsRequest
from retrain.errors import BackboneError
from retrain.preprocessing import ASPECT_MODES, InputSpec


def test_the_bundled_backbone_needs_nothing(tmp_path):
    found = loaded("mobilenet_bundled", tmp_path)
    vectors = assert_works(found, tmp_path, size=128, dimension=512)
    assert 0.01 < vectors.mean() < 1  # trained features, not the silence of random ones


@pytest.mark.parametrize(("name", "size"), [("mobilenet_0.25_128", 128), ("mobilenet_0.25_224", 224)])
def test_the_official_archives_work(codelab_data, tmp_path, name, size):
    float_vectors = assert_works(
        loaded(name, tmp_path, model_dir=codelab_data / "models"), tmp_path, size=size, dimension=256
    )
    quantized = loaded(f"{name}_quantized", tmp_path, model_dir=codelab_data / "models")
    vectors = assert_works(quantized, tmp_path, size=size, dimension=256)
    assert np.corrcoef(vectors.ravel(), float_vectors.ravel())[0, 1] > 0.9


def test_another_tensor_can_be_the_bottleneck(codelab_data, tmp_path):
    found = loaded(
        "mobilenet_0.25_128", tmp_path, model_dir=codelab_data / "models", target="MobilenetV1/Predictions/Reshape"
    )
    assert in_tensorflow(found).shape == (2, 1001)


def test_a_frozen_graph_asks_for_what_it_does_not_tell(mean_colour_backbone, tmp_path):
    with pytest.raises(BackboneError, match="--bottleneck_tensor"):
        loaded(str(mean_colour_backbone), tmp_path)
    found = loaded(str(mean_colour_backbone), tmp_path, target="mean_colour")
    assert_works(found, tmp_path, size=16, dimension=3)


def test_a_second_load_reads_what_the_first_one_froze(mean_colour_backbone, tmp_path):
    source = tmp_path / "network.pb"
    source.write_bytes(mean_colour_backbone.read_bytes())
    located = families.locate(replace(catalogue.find(str(source)), target="mean_colour"), WeightsRequest(tmp_path))
    first = loading.load_backbone(located, tmp_path / "store")
    source.write_bytes(b"nothing that could be frozen again")
    assert loading.load_backbone(located, tmp_path / "store") == first


def test_a_graph_that_is_kept_is_not_frozen_again(mean_colour_backbone, tmp_path):
    path = tmp_path / "their.pb"
    path.write_bytes(mean_colour_backbone.read_bytes())
    spec = replace(catalogue.find(str(path)), target="mean_colour")
    located = families.locate(spec, WeightsRequest(tmp_path))
    new = loading.known_graph(located, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    loading.load_backbone(located, tmp_path / "store")
    path.unlink()
    assert loading.known_graph(located, tmp_path / "store") == new


@pytest.mark.parametrize("mode", [None, *ASPECT_MODES])
def test_how_photos_keep_their_aspect_ratio_is_loaded_again(mean_colour_backbone, tmp_path, mode):
    spec = replace(
        catalogue.find(str(mean_colour_backbone)), target="mean_colour", input=InputSpec(keep_aspect_ratio=mode)
    )
    located = families.locate(spec, WeightsRequest(tmp_path))
    first = loading.load_backbone(located, tmp_path / "store")
    assert first.input.keep_aspect_ratio == mode
    assert loading.load_backbone(located, tmp_path / "store") == first
    assert ("keep_aspect_ratio" in (tmp_path / "store" / "backbone.json").read_text()) == (mode is not None)


@pytest.mark.parametrize("changed", ["backbone.pb", "backbone.tflite", "backbone.verified"])
def test_a_backbone_is_verified_as_long_as_each_form_of_it_has_the_bytes_that_were_compared(tmp_path, changed):
    backbone = loading.Backbone("a", tmp_path / "backbone.pb", InputSpec("input", 1, 2, 3.0, 4.0), "t", 5)
    for name in ("backbone.pb", "backbone.tflite"):
        loading.write_with_checksum(tmp_path / name, name.encode())
    assert not loading.is_verified(backbone)
    loading.mark_verified(backbone)
    assert loading.is_verified(backbone)
    loading.write_with_checksum(tmp_path / changed, b"other bytes, and whole")
    assert not loading.is_verified(backbone)


def _flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["backbone.pb", "backbone.json", "backbone.tflite"])
@pytest.mark.parametrize("part", ["itself", "its checksum", "its checksum is missing", "a part is missing"])
def test_a_damaged_part_of_a_stored_backbone_is_made_again(mean_colour_backbone, tmp_path, name, part):
    located = families.locate(
        replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour"), WeightsRequest(tmp_path)
    )
    folder, lines = tmp_path / "store", []

    def load():
        found = loading.load_backbone(located, folder)
        assert BackboneRunner(found, lines.append).model == folder / "backbone.tflite"
        return found

    first = load()
    written, checksum = (folder / name).read_bytes(), (folder / f"{name}.sha256").read_bytes()
    match part:
        case "itself":
            _flip_a_bit(folder / name)
        case "its checksum":
            _flip_a_bit(folder / f"{name}.sha256")
        case "its checksum is missing":  # as in folders of earlier versions
            (folder / f"{name}.sha256").unlink()
        case "a part is missing":
            (folder / name).unlink()
    assert load() == first
    assert (folder / name).read_bytes() == written
    assert (folder / f"{name}.sha256").read_bytes() == checksum
    assert lines == []


def test_a_stored_backbone_that_cannot_be_written_is_one_clear_error(mean_colour_backbone, tmp_path):
    located = families.locate(
        replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour"), WeightsRequest(tmp_path)
    )
    found = loading.load_backbone(located, tmp_path / "store")
    (tmp_path / "store" / "backbone.tflite.sha256").mkdir()  # stands for a disk without room
    with pytest.raises(BackboneError, match="cannot write to .*store.*Free some space"):
        BackboneRunner(found, print).model  # noqa: B018


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_archive_is_one_clear_error(tmp_path, codelab_data, content):
    name = "mobilenet_v1_1.0_224_frozen.tgz"
    whole = (codelab_data / "models" / "mobilenet_v1_0.25_128_frozen.tgz").read_bytes()
    (tmp_path / name).write_bytes(whole[:100_000] if content is None else content)
    with pytest.raises(BackboneError, match=rf"{name}.*Delete it and run again"):
        loaded("mobilenet_1.0_224", tmp_path, model_dir=tmp_path)


def test_another_image_size_is_taken_where_the_network_allows_it_and_refused_where_not(tmp_path):
    found = loaded("mobilenet_bundled", tmp_path, height=64, width=64)
    assert (*found.input.size, found.dimension) == (64, 64, 512)
    small_keras(rescaling=True).save(tmp_path / "fixed.keras")
    with pytest.raises(BackboneError, match="no other size"):
        loaded(str(tmp_path / "fixed.keras"), tmp_path, height=99, width=99)
