"""Rounded graphs are smaller, run everywhere, and give nearly the same."""

import zlib

import numpy as np
import pytest
from builders import built, normal, run

from retrain.graphs import editing, quantization


def network(tf, image):
    layer = tf.nn.relu(tf.nn.conv2d(image, normal(3, 3, 3, 64) * np.logspace(-2, 1, 64), 1, "SAME"))
    layer = tf.nn.depthwise_conv2d(layer, normal(5, 5, 64, 1), [1, 1, 1, 1], "SAME")
    tf.matmul(tf.reduce_mean(layer, [1, 2]), normal(64, 32), name="out")


@pytest.fixture(scope="module")
def graph_def():
    return built(network)


def close(found, graph_def):
    expected = run(graph_def)
    return np.abs(found - expected).max() / np.abs(expected).max()


def packed(graph_def):
    return len(zlib.compress(graph_def.SerializeToString(), 9))


def test_rounded_weights_compress_to_less_than_half_and_change_little(graph_def):
    rounded = quantization.round_weights(graph_def, bits=8)
    assert packed(rounded) < packed(graph_def) / 2
    assert 0 < close(run(rounded), graph_def) < 0.02
    assert close(run(quantization.round_weights(graph_def, bits=3)), graph_def) > close(run(rounded), graph_def)


def test_eight_bit_weights_take_a_third_of_the_bytes_and_change_little(graph_def):
    shrunk = quantization.to_8_bit_weights(graph_def)
    assert len(shrunk.SerializeToString()) < len(graph_def.SerializeToString()) / 2.5
    assert close(run(shrunk), graph_def) < 0.02


def test_rounding_every_layer_costs_more_the_fewer_the_bits(graph_def):
    costs = [close(run(quantization.round_layers(graph_def, bits=bits)), graph_def) for bits in (4, 8, 12)]
    assert costs == sorted(costs, reverse=True)
    assert costs[1] < 0.1


def test_small_channels_keep_their_values(graph_def):
    from retrain.graphs import nodes

    rounded = quantization.round_weights(graph_def, bits=8)
    # The first filter is a thousand times smaller than the last; one range for all would leave it one value.
    kernel = next(n for n in rounded.node if n.name.endswith("/weights") and n.op == "Const")
    import tensorflow as tf

    values = tf.make_ndarray(kernel.attr["value"].tensor)
    assert len(np.unique(values[..., 0])) > 20
    assert nodes.count_operations(rounded)["Mul"] == 3


def test_the_graph_that_goes_in_is_not_changed(graph_def):
    before = graph_def.SerializeToString(deterministic=True)
    quantization.to_8_bit_weights(graph_def), quantization.round_layers(graph_def, bits=8)
    assert graph_def.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("rounded", ["to_8_bit_weights", "round_weights", "round_layers"])
def test_the_c_api_of_tensorflow_imports_what_is_rounded(graph_def, rounded):
    import tensorflow as tf
    from tensorflow.python.client import pywrap_tf_session as c_api
    from tensorflow.python.framework import c_api_util

    options = {} if rounded == "to_8_bit_weights" else {"bits": 8}
    found = getattr(quantization, rounded)(editing.strip_defaults(graph_def), **options)
    assert all(value.WhichOneof("value") for node in found.node for value in node.attr.values())
    with (
        tf.Graph().as_default() as graph,
        graph._c_graph.get() as c_graph,
        c_api_util.tf_buffer(found.SerializeToString()) as buffer,
    ):
        options = c_api_util.ScopedTFImportGraphDefOptions()
        c_api.TF_GraphImportGraphDefWithResults(c_graph, buffer, options.options)
