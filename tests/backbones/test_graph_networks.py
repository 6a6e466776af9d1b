"""Frozen graphs become networks that can be trained, and are the same before the first step."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import in_tensorflow
from builders import built, normal, write_tf1_hub_module
from conftest import command, write_graph

from retrain.backbones import catalogue, families, keras_networks
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.loading import frozen_graph, load_backbone, write_backbone
from retrain.backbones.sources import WeightsRequest
from retrain.errors import BackboneError
from retrain.graphs import nodes
from retrain.training import trainable_layers


def network_of(architecture, model_dir=".", **changes):
    """Return a backbone as a frozen graph, and as a network that can be trained."""
    spec = architecture if isinstance(architecture, BackboneSpec) else catalogue.find(str(architecture))
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


def assert_all_layers_learn(network, count):
    """The whole network, taken at once, has a gradient for each of its `count` kernels and biases."""
    import tensorflow as tf

    layers = trainable_layers.split_network(network.model, "all")
    assert len(kernels(network)) == count
    size = layers.sizes[0]
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, size)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layers.bottlenecks(tf.constant(pixels)) ** 2)
    trained = layers.model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in trained])
    still = [v.path for v, g in zip(trained, gradients, strict=True) if g is None or not np.any(g.numpy())]
    assert not still


@pytest.mark.parametrize("name", ["mobilenet_0.25_128", "mobilenet_0.25_128_quantized"])
def test_every_layer_of_an_archive_learns(codelab_data, name):
    assert_all_layers_learn(network_of(name, codelab_data / "models")[1], 27)


def inception_of_2015(path):
    """Write a small network of the operations, names and input of the codelab's Inception v3."""
    import tensorflow as tf

    raw, rng = tf.raw_ops, np.random.default_rng(0)
    convolutions = []

    def convolved(x, channels, side, stride, padding, name):
        kernel = rng.normal(size=(side, side, x.shape[-1], channels)) / side / np.sqrt(int(x.shape[-1]))
        x = raw.Conv2D(
            input=x, filter=kernel.astype(np.float32), strides=[1, stride, stride, 1], padding=padding,
            name=f"{name}/Conv2D",
        )  # fmt: skip
        convolutions.append(name)
        return raw.Relu(features=raw.CheckNumerics(tensor=tf.identity(x, f"{name}/batchnorm"), message=""), name=name)

    with tf.Graph().as_default() as graph:
        contents = tf.compat.v1.placeholder(tf.string, [], "DecodeJpeg/contents")
        decoded = tf.cast(tf.image.decode_jpeg(contents, 3), tf.float32)
        resized = tf.compat.v1.image.resize_bilinear(decoded[None], [299, 299])
        x = raw.Mul(x=resized - 128.0, y=1 / 128, name="Mul")
        x = convolved(x, 6, 3, 2, "VALID", "conv")
        x = raw.MaxPool(input=x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID", name="pool")
        x = convolved(x, 8, 3, 4, "VALID", "conv_1")
        x = raw.MaxPool(input=x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID", name="pool_1")
        pooled = raw.AvgPool(
            value=x, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding="SAME", name="mixed/tower_2/pool"
        )
        parts = [
            convolved(x, 4, 1, 1, "SAME", "mixed/conv"),
            convolved(convolved(x, 4, 1, 1, "SAME", "mixed/tower/conv"), 6, 5, 1, "SAME", "mixed/tower/conv_1"),
            convolved(pooled, 4, 1, 1, "SAME", "mixed/tower_2/conv"),
        ]
        x = raw.Concat(concat_dim=3, values=parts, name="mixed/join")
        x = raw.AvgPool(value=x, ksize=[1, 8, 8, 1], strides=[1, 1, 1, 1], padding="VALID", name="pool_3")
        logits = tf.matmul(tf.reshape(x, [-1, 14]), normal(14, 1008))
        tf.nn.softmax(logits, name="softmax")
    made = nodes.from_tensorflow(graph.as_graph_def())
    for name in convolutions:
        (norm,) = [node for node in made.node if node.name == f"{name}/batchnorm"]
        (kernel,) = [node for node in made.node if node.name == f"{name}/Conv2D/filter"]
        channels = kernel.attr["value"].tensor.tensor_shape.dim[3].size
        vectors = {"mean": normal(channels) / 9, "variance": rng.uniform(0.1, 1, channels).astype(np.float32)}
        vectors |= {"beta": normal(channels) / 2, "gamma": rng.uniform(0.5, 2, channels).astype(np.float32)}
        added = [nodes.constant_node(f"{name}/batchnorm/{key}", value) for key, value in vectors.items()]
        made.node.extend(added)
        norm.op = "BatchNormWithGlobalNormalization"
        norm.input.extend(node.name for node in added)
        norm.attr["variance_epsilon"].f, norm.attr["scale_after_normalization"].b = 0.001, True
    made.versions.producer = 8
    path.write_bytes(made.SerializeToString())
    return path


def test_the_inception_of_2015_can_be_trained(tmp_path):
    frozen, network = network_of(inception_of_2015(tmp_path / "graph.pb"))
    assert (frozen.input.node, *frozen.input.size, frozen.input.mean, frozen.input.std) == ("Mul", 299, 299, 128, 128)
    assert frozen.dimension == 14
    assert_the_same(frozen, network, tmp_path)
    assert_all_layers_learn(network, 6)
    assert "mixed_join" in {layer.name for layer in network.model.layers}


def scaling(tf, image):
    x = tf.nn.conv2d(image / 127.5 - [1.0, 0.9, 1.1], normal(3, 3, 3, 5), 1, "VALID")
    tf.reduce_mean(tf.nn.relu(x), [1, 2], name="out")


def residual(tf, image):
    """A branch that is joined again, part of it by a number for each channel, and one that normalises first."""
    x = tf.nn.relu(tf.nn.conv2d(image, normal(3, 3, 3, 4), 1, "SAME"))
    gate = tf.sigmoid(tf.nn.conv2d(tf.reduce_mean(x, [1, 2], keepdims=True), normal(1, 1, 4, 4), 1, "SAME"))
    y = tf.nn.conv2d(tf.nn.relu(x * normal(4) + normal(4)) * gate, normal(3, 3, 4, 4), 1, "SAME")
    x = tf.math.add_n([x, tf.add(x, y), y]) + tf.expand_dims(tf.reduce_mean(y, 1), 1)
    tf.reduce_mean(x, [1, 2], name="out")


def rounding(tf, image):
    """As a network is that was trained for eight bits."""
    x = tf.quantization.fake_quant_with_min_max_vars(image, -1.0, 1.0)
    kernel = tf.quantization.fake_quant_with_min_max_vars(normal(3, 3, 3, 4), -2.0, 2.0)
    x = tf.quantization.fake_quant_with_min_max_vars(tf.nn.conv2d(x, kernel, 1, "SAME"), -5.0, 5.0)
    tf.reduce_mean(x, [1, 2], name="out")


@pytest.mark.parametrize(("build", "count"), [(scaling, 1), (residual, 3), (rounding, 1)])
def test_a_graph_of_ones_own_can_be_trained(tmp_path, build, count):
    graph_def = built(build)
    (tmp_path / "größe 2.pb").write_bytes(graph_def.SerializeToString())
    mean, std = (0.0, 1.0) if build is scaling else (127.5, 127.5)
    frozen, network = network_of(tmp_path / "größe 2.pb", target="out", input={"mean": mean, "std": std})
    assert_the_same(frozen, network, tmp_path)
    assert_all_layers_learn(network, count)


def test_a_part_of_a_network_whose_sums_are_no_layers_takes_what_is_below_it_and_no_more(tmp_path):
    (tmp_path / "g.pb").write_bytes(built(residual).SerializeToString())
    _, network = network_of(tmp_path / "g.pb", target="out", input={"mean": 0.0, "std": 1.0})
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 9, 9, 3)).astype(np.float32)
    expected = network.model(pixels).numpy()
    for layer in network.model.layers[1:]:
        layers = trainable_layers.split_network(network.model, layer.name)
        below = trainable_layers.frozen_part(network.model, layers)(pixels)
        parts = below if isinstance(below, list) else [below]
        flat = np.concatenate([np.reshape(part, (3, -1)) for part in parts], axis=1)
        assert layers.bottlenecks(flat).numpy() == pytest.approx(expected, abs=1e-5)
        above = network.model.layers[network.model.layers.index(layer) :]
        assert {w.path for w in layers.model.weights} == {w.path for each in above for w in each.weights}


def unknown(tf, image):
    tf.reduce_mean(tf.nn.lrn(image, name="node"), [1, 2], name="out")


def weightless(tf, image):
    tf.reduce_mean(tf.nn.relu(image), [1, 2], name="out")


def of_images(tf, image):
    kernel = tf.reshape(tf.reduce_mean(image, [0, 1, 2]), [1, 1, 3, 1])
    tf.reduce_mean(tf.nn.conv2d(image, kernel, 1, "SAME", name="node"), [1, 2], name="out")


def channels_first(tf, image):
    x = tf.nn.conv2d(tf.transpose(image, [0, 3, 1, 2]), normal(1, 1, 3, 4), 1, "SAME", "NCHW", name="node")
    tf.reduce_mean(x, [2, 3], name="out")


def of_batches(tf, image):
    x = tf.raw_ops.FusedBatchNormV3(
        x=image, scale=normal(3), offset=normal(3), mean=[], variance=[], is_training=True, name="node"
    )[0]
    tf.reduce_mean(x, [1, 2], name="out")


def joined_with_numbers(tf, image):
    x = tf.reduce_mean(tf.nn.conv2d(image, normal(3, 3, 3, 4), 1, "SAME"), [1, 2])
    tf.identity(
        x + tf.reduce_sum(tf.concat([x, tf.constant(normal(1, 4), name="numbers")], 0, name="node")), name="out"
    )


def transposed(tf, image):
    x = tf.reduce_mean(tf.nn.conv2d(image, normal(3, 3, 3, 4), 1, "SAME"), [1, 2])
    tf.matmul(tf.transpose(x), normal(4, 5), transpose_a=True, name="out")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (unknown, "Keras has no layer for its operation LRN (node node)"),
        (weightless, "none of its operations is a layer with weights"),
        (of_images, "its operation Conv2D (node node) computes the weights that it works with"),
        (channels_first, "its operation Conv2D (node node) has the channels in front of height and width"),
        (of_batches, "its operation FusedBatchNormV3 (node node) normalises by each batch, as in training"),
        (joined_with_numbers, "its operation ConcatV2 (node node) reads a constant (numbers) as if it was an image"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(tmp_path, build, reason):
    graph = write_graph(tmp_path / "g.pb", build)
    with pytest.raises(BackboneError) as caught:
        network_of(graph, target="out")
    assert str(caught.value) == (
        f"g.pb cannot be fine-tuned: {reason}. Leave out --fine_tune_from, or choose another --architecture."
    )


def test_what_keras_itself_refuses_is_refused_by_name(tmp_path):
    with pytest.raises(
        BackboneError, match=r"^g.pb cannot be fine-tuned: its operation MatMul \(node out\) is not as Keras"
    ):
        network_of(write_graph(tmp_path / "g.pb", transposed), target="out")


def saved_model(folder):
    import keras

    keras.utils.set_random_seed(2)
    x = image = keras.Input((20, 20, 3))
    for number in range(2):
        x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, name=f"block{number}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{number}_norm")(x)
        x = keras.layers.ReLU(name=f"block{number}_relu")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="net")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    model.export(folder, verbose=False)
    return folder


def test_a_saved_model_can_be_trained(tmp_path):
    frozen, network = network_of(saved_model(tmp_path / "model"))
    assert_the_same(frozen, network, tmp_path)
    assert frozen.input.node == "Placeholder"
    assert_all_layers_learn(network, 2)
    assert any("block1_conv" in layer.name for layer in network.model.layers)


def test_a_hub_module_of_tensorflow_1_can_be_trained(tmp_path):
    module = write_tf1_hub_module(tmp_path / "module", kernel=normal(3, 3, 3, 3))
    frozen, network = network_of(catalogue.from_hub(str(module)))
    assert_the_same(frozen, network, tmp_path)
    assert_all_layers_learn(network, 1)


def test_a_network_is_frozen_to_the_same_bytes_each_time(tmp_path):
    (tmp_path / "g.pb").write_bytes(built(residual).SerializeToString())
    graphs = [
        keras_networks.freeze(network_of(tmp_path / "g.pb", target="out")[1]).graph_def.SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    ]
    assert graphs[0] == graphs[1]


def test_a_network_made_from_the_kept_graph_is_that_of_its_source(tmp_path):
    spec = catalogue.find(str(saved_model(tmp_path / "model")))
    source = families.locate(spec, WeightsRequest(tmp_path))
    kept = load_backbone(source, tmp_path / "store")
    networks = [families.trainable_network(source)]
    shutil.rmtree(tmp_path / "model")
    networks.append(families.trainable_network(source, lambda _: frozen_graph(kept)))
    one, other = (keras_networks.freeze(network) for network in networks)
    assert one.graph_def.SerializeToString(deterministic=True) == other.graph_def.SerializeToString(deterministic=True)
    assert one.input == other.input


ON_TWO_DEVICES = """
from pathlib import Path
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from retrain.backbones import catalogue, devices, families, keras_networks
from retrain.backbones.loading import frozen_graph, load_backbone
from retrain.backbones.sources import WeightsRequest
source = families.locate(catalogue.find("model"), WeightsRequest(Path()))
kept = load_backbone(source, Path("store"))
with devices.strategy("mirrored").scope():
    network = families.trainable_network(source, lambda _: frozen_graph(kept))
kinds = {type(variable.value).__name__ for variable in network.model.trainable_variables}
frozen = keras_networks.freeze(network)
print(kinds, [node.op for node in frozen.graph_def.node].count("Conv2D"))
"""


@pytest.mark.slow
def test_a_saved_model_can_be_trained_on_several_devices(tmp_path):
    saved_model(tmp_path / "model")
    done = command("python", "-c", ON_TWO_DEVICES, cwd=tmp_path)
    assert done.stdout.split() == ["{'MirroredVariable'}", "2"]
