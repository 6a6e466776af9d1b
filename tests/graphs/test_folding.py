"""A simplified graph gives the same, with fewer and older operations."""

import numpy as np
import pytest
from builders import built, normal, run

from retrain.formats.keras_layers import LayerBuilder
from retrain.graphs import editing, folding, nodes

RNG = np.random.default_rng(0)


def variance(*shape):
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def fused(tf, x, channels, name=None, op="FusedBatchNormV3"):
    values = {"scale": normal(channels), "offset": normal(channels), "mean": normal(channels)}
    made = getattr(tf.raw_ops, op)(x=x, variance=variance(channels), is_training=False, epsilon=1e-3, **values)
    return tf.identity(made[0], name=name)


def decomposed(tf, x, channels, name=None):
    gamma = tf.identity(tf.constant(normal(channels)))
    scale = tf.math.rsqrt(tf.constant(variance(channels)) + 0.001) * gamma
    return tf.add(x * scale, tf.constant(normal(channels)) - tf.constant(normal(channels)) * scale, name=name)


def conv_fused(tf, image):
    fused(tf, tf.nn.conv2d(image, normal(3, 3, 3, 8), 2, "SAME"), 8, "out")


def conv_fused_old(tf, image):
    fused(tf, tf.nn.conv2d(image, normal(3, 3, 3, 8), 2, "SAME"), 8, "out", op="FusedBatchNorm")


def conv_decomposed(tf, image):
    decomposed(tf, tf.nn.bias_add(tf.nn.conv2d(image, normal(3, 3, 3, 8), 1, "VALID"), normal(8)), 8, "out")


def depthwise(tf, image):
    decomposed(tf, tf.nn.depthwise_conv2d(image, normal(3, 3, 3, 2), [1, 1, 1, 1], "SAME"), 6, "out")


def dense(tf, image):
    flat = tf.reduce_mean(image, [1, 2])
    decomposed(tf, tf.matmul(flat, normal(5, 3), transpose_b=True), 5, "out")


def scaled_pixels(tf, image):
    tf.nn.relu(tf.subtract(tf.nn.conv2d(image, normal(1, 1, 3, 4), 1, "SAME") / 3.0, 0.25), name="out")


def taken_from(tf, image):
    tf.subtract(normal(4), tf.nn.conv2d(image, normal(1, 1, 3, 4), 1, "SAME"), name="out")


def one_channel(tf, image):
    decomposed(tf, tf.nn.conv2d(image, normal(1, 1, 3, 1), 1, "SAME"), 1, "out")


@pytest.mark.parametrize(
    "build", [conv_fused, conv_fused_old, conv_decomposed, depthwise, dense, scaled_pixels, taken_from, one_channel]
)
def test_what_follows_a_layer_becomes_part_of_it(build):
    graph_def = built(build)
    simple = folding.simplify(graph_def, keep=["input", "out"])
    assert run(simple) == pytest.approx(run(graph_def), abs=1e-4)
    left = {node.op for node in simple.node if node.name != "out"} - {"Placeholder", "Const", "Mean", "Relu"}
    assert left <= {"Conv2D", "DepthwiseConv2dNative", "MatMul", "BiasAdd"}


def before_the_layer(tf, image):
    tf.nn.conv2d(tf.nn.relu(fused(tf, image, 3)), normal(3, 3, 3, 2), 1, "SAME", name="out")


def read_twice(tf, image):
    made = tf.nn.conv2d(image, normal(3, 3, 3, 4), 1, "SAME")
    tf.add(tf.nn.relu(made), decomposed(tf, made, 4), name="out")


def shared_weights(tf, image):
    weights = tf.constant(normal(3, 3, 3, 3))
    once = decomposed(tf, tf.nn.conv2d(image, weights, 1, "SAME"), 3)
    decomposed(tf, tf.nn.conv2d(once, weights, 1, "SAME"), 3, "out")


def along_rows(tf, image):
    tf.add(tf.nn.conv2d(image, normal(3, 3, 3, 9), 1, "SAME"), normal(9, 1), name="out")


@pytest.mark.parametrize("build", [before_the_layer, read_twice, shared_weights, along_rows])
def test_what_cannot_be_folded_still_gives_the_same(build):
    graph_def = built(build)
    simple = folding.simplify(graph_def, keep=["input", "out"])
    assert run(simple) == pytest.approx(run(graph_def), abs=1e-4)
    assert not {node.op for node in simple.node} & {"FusedBatchNormV3", "AddV2", "Identity"}


def test_the_normalisation_of_2015_is_folded_though_todays_graphs_may_not_hold_it():
    import tensorflow as tf

    def build(tf, image):
        tf.identity(tf.nn.conv2d(image, normal(3, 3, 3, 8), 2, "SAME", name="conv"), name="out")

    vectors = dict(zip(("m", "v", "beta", "gamma"), (normal(8), variance(8), normal(8), normal(8)), strict=True))
    graph_def = built(build)
    expected = run(graph_def, "conv")
    scale = vectors["gamma"] / np.sqrt(vectors["v"] + np.float32(0.001))
    (last,) = [node for node in graph_def.node if node.name == "out"]
    last.op = "BatchNormWithGlobalNormalization"
    last.input.extend(nodes.constant_node(name, value).name for name, value in vectors.items())
    graph_def.node.extend(nodes.constant_node(name, value) for name, value in vectors.items())
    last.attr["variance_epsilon"].f, last.attr["scale_after_normalization"].b = 0.001, True
    graph_def.versions.producer = 8
    simple = folding.simplify(graph_def, keep=["input", "out"])
    assert [n.op for n in simple.node if n.op != "Const"] == ["Placeholder", "Conv2D", "BiasAdd"]
    simple.versions.producer = tf.version.GRAPH_DEF_VERSION
    assert run(simple) == pytest.approx((expected - vectors["m"]) * scale + vectors["beta"], abs=1e-4)


def test_kept_nodes_keep_their_values_and_stop_the_folding():
    def build(tf, image):
        tf.nn.relu(decomposed(tf, tf.nn.conv2d(image, normal(3, 3, 3, 4), 1, "SAME", name="middle"), 4), name="out")

    graph_def = built(build)
    simple = folding.simplify(graph_def, keep=["input", "middle", "out"])
    for output in ("middle", "out"):
        assert run(simple, output) == pytest.approx(run(graph_def, output), abs=1e-5)


def test_a_graph_with_control_flow_is_left_as_it_is():
    def build(tf, image):
        tf.compat.v1.disable_control_flow_v2()
        tf.identity(tf.compat.v1.cond(tf.reduce_sum(image) > 0, lambda: image * 2, lambda: image), name="out")
        tf.compat.v1.enable_control_flow_v2()

    graph_def = built(build)
    assert folding.simplify(graph_def, keep=["input", "out"]) == graph_def


def test_eight_bit_weights_stay_eight_bits():
    def build(tf, image):
        numbers = tf.cast(RNG.integers(0, 255, (3, 3, 3, 4)), tf.quint8)
        weights = tf.quantization.dequantize(numbers, -1.0, 1.0)
        decomposed(tf, tf.nn.conv2d(image, weights, 1, "SAME"), 4, "out")

    graph_def = built(build)
    simple = folding.simplify(graph_def, keep=["input", "out"])
    assert run(simple) == pytest.approx(run(graph_def), abs=1e-4)
    assert "Dequantize" in {node.op for node in simple.node}


def test_every_output_of_a_folded_node_is_kept():
    def grouped(tf, image):  # a convolution in groups, as exporters of old wrote it
        kernels = tf.split(tf.constant(normal(3, 3, 3, 8)), 2, axis=3, name="kernels")
        with tf.control_dependencies([kernels[1]]):  # waits for what is folded
            tf.concat([tf.nn.conv2d(image, kernel, 1, "SAME") for kernel in kernels], 3, name="out")

    definition = built(grouped)
    folded = folding.fold_constants(definition)
    assert run(folded) == pytest.approx(run(definition), abs=1e-5)
    assert "Split" not in nodes.count_operations(folded)


@pytest.mark.parametrize("form", ["folded", "keras"])
def test_a_stripped_epsilon_is_the_default_of_its_operation(form):
    def normalised(tf, image):
        image = tf.nn.conv2d(image, normal(1, 1, 3, 4), 1, "SAME") if form == "folded" else image
        channels = image.shape[-1]
        values = {"scale": normal(channels), "offset": normal(channels), "mean": normal(channels)}
        small = np.full(channels, 1e-5, np.float32)
        made = tf.raw_ops.FusedBatchNorm(x=image, variance=small, is_training=False, epsilon=1e-4, **values)[0]
        tf.identity(made, name="out")

    definition = built(normalised)
    expected = run(definition)
    stripped = editing.strip_defaults(definition)
    assert not any("epsilon" in node.attr for node in stripped.node)
    if form == "folded":
        found = run(folding.simplify(stripped, keep=["input", "out"]))
    else:
        import keras

        image = keras.Input((9, 9, 3))
        model = keras.Model(image, LayerBuilder(stripped, image, source="input", output="out").result)
        found = model(np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_normalisation_that_trains_by_default_is_left_alone():
    definition = built(conv_fused)
    for node in definition.node:
        if node.op == "FusedBatchNormV3":
            del node.attr["is_training"]
    assert nodes.count_operations(folding.simplify(definition, keep=["input", "out"]))["FusedBatchNormV3"] == 1
