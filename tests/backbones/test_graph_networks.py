"""Frozen graphs become networks that can be trained, and are the same before the first step."""

from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import in_tensorflow

from retrain.backbones import catalogue, families, keras_networks
from retrain.backbones.loading import write_backbone
from retrain.backbones.sources import WeightsRequest
from retrain.graphs import nodes
from retrain.training import trainable_layers


def network_of(architecture, model_dir=".", **changes):
    """Return a backbone as a frozen graph, and as a network that can be trained."""
    spec = catalogue.find(str(architecture))
    spec = replace(spec, input=replace(spec.input, **changes.pop("input", {})), **changes)
    source = families.locate(spec, WeightsRequest(model_dir))
    return families.freeze(source), families.trainable_network(source)


def vectors(frozen, folder):
    return in_tensorflow(write_backbone(frozen, folder, architecture="a"))


def assert_the_same(frozen, network, folder, *, tolerance=1e-4):
    """The network gives the frozen graph's bottlenecks, takes the same input, and freezes to the same node's name."""
    again = keras_networks.freeze(network)
    expected = vectors(frozen, folder / "before")
    assert np.ptp(expected) > 0
    scale = float(np.abs(expected).max())
    assert vectors(again, folder / "after") == pytest.approx(expected, abs=tolerance * scale)
    assert again.input == frozen.input
    return again


def kernels(network):
    return [layer for layer in network.model.layers if hasattr(layer, "kernel")]


@pytest.mark.parametrize("name", ["mobilenet_0.25_128", "mobilenet_0.25_128_quantized"])
def test_an_archive_of_the_codelab_can_be_trained(codelab_data, tmp_path, name):
    frozen, network = network_of(name, codelab_data / "models")
    again = assert_the_same(frozen, network, tmp_path)
    assert len(kernels(network)) == 27
    trained = sum(int(np.prod(variable.shape)) for variable in network.model.trainable_variables)
    assert trained == network.model.count_params() == 210_336
    # The codelab's apps know these.
    assert set(nodes.count_operations(again.graph_def)) == {
        "Const", "BiasAdd", "Relu6", "Conv2D", "DepthwiseConv2dNative", "Placeholder", "AvgPool", "Reshape", "Identity",
    }  # fmt: skip


def test_the_network_of_a_graph_retrained_long_ago_can_be_trained(codelab_data, tmp_path):
    graph = codelab_data / "models" / "legacy" / "retrained_graph_mobilenet_0.25_128.pb"
    frozen, network = network_of(graph)
    assert_the_same(frozen, network, tmp_path)
    assert network.model.count_params() == 210_336


def test_blocks_of_an_archive_have_the_names_of_its_scopes(codelab_data):
    _, network = network_of("mobilenet_0.25_128", codelab_data / "models")
    layers = trainable_layers.split_network(network.model, "MobilenetV1_Conv2d_13")
    assert layers.name == "MobilenetV1_Conv2d_13_depthwise_depthwise"
    assert [tuple(shape) for shape in layers.shapes] == [(4, 4, 256)]
