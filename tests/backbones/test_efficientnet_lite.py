"""EfficientNet-Lite is the network of its weights: it knows the flowers that ImageNet names."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backbone_checks import assert_works, loaded

from retrain.backbones import catalogue, efficientnet_lite, families, loading
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import WeightsRequest
from retrain.data import decoding
from retrain.errors import BackboneError
from retrain.graphs import nodes, reading

DAISY = 985  # of ImageNet's 1000 classes


def located(spec, folder=Path()):
    return families.locate(spec, WeightsRequest(folder))


def row(name):
    """Return the row of a network whose package is here."""
    spec = catalogue.find(name)
    if importlib.util.find_spec(spec.location) is None:
        pytest.skip(f"the package of {name} is not installed: pip install -e '.[dev]'")
    return spec


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "every", "right"),
    [("efficientnet_lite0", 1, 183), ("efficientnet_lite1", 4, 45), ("efficientnet_lite2", 4, 47)],
)
def test_the_daisies_are_daisies_to_the_classifier_that_the_weights_bring(data, tmp_path, name, every, right):
    """A layer in the wrong place would leave none of them."""
    source = located(row(name))
    backbone = loading.load_backbone(source, tmp_path)
    run, weights = BackboneRunner(backbone, pytest.fail).runner(), efficientnet_lite.read_weights(source)
    photos = sorted((data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))
    height, width = backbone.input.size
    features = np.stack([run(decoding.decode(p.read_bytes(), height=height, width=width)) for p in photos[::every]])
    first = (features @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax(1)
    assert len(photos) == 220
    assert (first == DAISY).sum() == pytest.approx(right, abs=5 if every == 1 else 2)


@pytest.mark.slow
def test_the_frozen_network_is_made_of_few_old_operations_and_takes_any_size(tmp_path):
    found = loaded("efficientnet_lite0", tmp_path, height=96, width=64)
    assert (found.input.size, found.dimension, found.input.mean, found.input.std) == ((96, 64), 1280, 127.0, 128.0)
    counted = nodes.count_operations(reading.read_graph(found.graph))
    convolutions = counted["Conv2D"] + counted["DepthwiseConv2dNative"]
    # Batch normalisation is part of the convolution before it: one bias is left of each.
    assert (convolutions, counted["BiasAdd"], counted["Relu6"], counted["Add"], counted["Mean"]) == (49, 49, 33, 9, 1)
    assert set(counted) - {"Conv2D", "DepthwiseConv2dNative", "BiasAdd", "Relu6", "Add", "Mean"} <= {
        "Const", "Placeholder", "Identity",
    }  # fmt: skip


@pytest.mark.slow
def test_a_layer_can_be_the_bottleneck_and_every_engine_agrees(tmp_path):
    found = loaded("efficientnet_lite0", tmp_path, height=64, width=64)
    assert_works(found, tmp_path, size=64, dimension=1280)
    found = loaded("efficientnet_lite0", tmp_path, height=64, width=64, target="block3b_add")
    assert_works(found, tmp_path, size=64, dimension=40)


def fake(folder, monkeypatch, content=None):
    """Return the row of a network whose package is in a folder; its code must not run."""
    package = folder / "some_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the code of the package was run')")
    if content is not None:
        (package / "models" / "some.pth").write_bytes(content)
    monkeypatch.syspath_prepend(folder)
    spec = catalogue.find("efficientnet_lite0")
    return replace(spec, location="some_pytorch_model", member="models/some.pth")


def test_weights_are_found_without_running_the_package(tmp_path, monkeypatch):
    source = located(fake(tmp_path, monkeypatch, b"weights"))
    assert source.path == tmp_path / "some_pytorch_model" / "models" / "some.pth"


@pytest.mark.parametrize("package", ["without its file", "not installed"])
def test_a_missing_package_is_named_with_the_network_that_needs_none(tmp_path, monkeypatch, package):
    spec = fake(tmp_path, monkeypatch)
    if package == "not installed":
        spec = replace(spec, location="no_such_pytorch_model")
    with pytest.raises(BackboneError) as error:
        located(spec)
    name = spec.location.replace("_", "-")
    assert f"pip install {name}, or use --architecture mobilenet_bundled" in str(error.value)


@pytest.mark.parametrize("damage", ["a bit", "another file", "far too large", "a folder"])
def test_weights_that_are_not_the_known_ones_are_refused_unread(tmp_path, monkeypatch, damage):
    content = bytearray(located(catalogue.find("efficientnet_lite0")).path.read_bytes())
    content[len(content) // 2] ^= 1
    spec = fake(tmp_path, monkeypatch, b"weights" if damage == "another file" else bytes(content))
    source = located(spec)
    words = "is damaged, or of another version.*Run pip install --force-reinstall some-pytorch-model"
    if damage == "far too large":
        with source.path.open("wb") as file:
            file.truncate(10**12)  # of which the disk holds nothing
        words = "cannot read the weights.*1,000,000,000,000 bytes"
    if damage == "a folder":
        source.path.unlink()
        source.path.mkdir()
        words = "cannot read the weights"
    with pytest.raises(BackboneError, match=words):
        families.trainable_network(source)


def test_weights_of_the_users_own_are_refused(tmp_path):
    with pytest.raises(BackboneError, match="--weights goes with keras: architectures and mobilenet_bundled"):
        families.locate(catalogue.find("efficientnet_lite0"), WeightsRequest(tmp_path, "own.pth"))
