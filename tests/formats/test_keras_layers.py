"""Networks of every kind of layer that keras.applications has, in every format."""

from dataclasses import replace

import numpy as np
import pytest
from builders import export_source, graph_model
from conftest import write_graph

from retrain.errors import ExportError
from retrain.formats import frozen_graph
from retrain.formats import keras as keras_format
from retrain.formats import table as formats
from retrain.graphs import freezing, nodes, reading
from retrain.metadata import METADATA_NODE, Metadata

SIZE, LABELS = 24, ("a", "b", "c", "d")


def grouped(keras, x):
    """As in ConvNeXt: a convolution for each channel, layer normalisation, GELU, dense layers on maps."""
    x = keras.layers.Conv2D(12, 5, padding="same", groups=6)(keras.layers.Conv2D(6, 4, strides=4)(x))
    x = keras.layers.LayerNormalization(epsilon=1e-6)(x)
    return keras.layers.Dense(8)(keras.layers.Activation("gelu")(keras.layers.Dense(20)(x)))


def swish(keras, x):
    """As in EfficientNet and MobileNetV3: swish, squeeze and excitation, hard swish."""
    x = keras.layers.Conv2D(8, 3, strides=2, activation="swish")(keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    part = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    part = keras.layers.Conv2D(8, 1, activation="sigmoid")(keras.layers.Conv2D(2, 1, activation="relu")(part))
    x = keras.layers.Multiply()([x, part])
    return keras.layers.DepthwiseConv2D(3, padding="same", activation="hard_silu")(x)


def dense_blocks(keras, x):
    """As in DenseNet, NASNet and Inception: parts joined, cut and pooled, normalisation that follows no convolution."""
    x = keras.layers.BatchNormalization(scale=False)(keras.layers.Conv2D(6, 3, use_bias=False)(x))
    left = keras.layers.MaxPooling2D(3, strides=2, padding="same")(keras.layers.Activation("relu")(x))
    right = keras.layers.AveragePooling2D(2, padding="same")(keras.layers.Cropping2D(((1, 0), (1, 0)))(x))
    x = keras.layers.Concatenate()([left, right])
    return keras.layers.SeparableConv2D(8, 3, activation="elu")(keras.layers.BatchNormalization()(x))


def caffe(keras, x):
    """As ResNet and VGG want their pixels: blue first, a mean taken from each channel."""
    x = keras.applications.imagenet_utils.preprocess_input(x, data_format="channels_last", mode="caffe")
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.Add()([x, keras.layers.LeakyReLU(0.1)(keras.layers.Conv2D(4, 3, padding="same")(x))])
    return keras.layers.Reshape((-1, 1, 4))(keras.layers.MaxPooling2D(2)(x))


@pytest.fixture(params=[grouped, swish, dense_blocks, caffe], ids=lambda build: build.__name__)
def graph(request, tmp_path):
    """A frozen graph of such a network with random weights, its probabilities far from equal."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    image = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(request.param(keras, image)))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    frozen = freezing.from_keras(model)
    metadata = Metadata(LABELS, replace(frozen.input, mean=0.0, std=51.0), "final_result")
    matrix = np.random.default_rng(2).normal(size=(frozen.dimension, len(LABELS))).astype(np.float32)
    with tf.Graph().as_default() as joined:
        tf.import_graph_def(nodes.in_tensorflow(frozen.graph_def), name="")
        features = joined.get_tensor_by_name(f"{frozen.target}:0")
        tf.nn.softmax(tf.matmul(features, tf.constant(matrix)), name="final_result")
        tf.constant(metadata.to_json(), name=METADATA_NODE)
        path = tmp_path / "g.pb"
        path.write_bytes(joined.as_graph_def().SerializeToString())
    return path


def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("form", ["keras", "onnx", pytest.param("saved_model", marks=pytest.mark.slow)])
def test_other_formats_give_the_probabilities_of_the_graph(graph, tmp_path, form):
    expected = graph_model(graph)(pictures())
    assert np.ptp(expected) > 0.05
    path = formats.write(form, export_source(graph), graph)
    row = formats.format_of(path)
    assert row.load(path, row.describe(path))(pictures()) == pytest.approx(expected, abs=1e-4)


def test_no_functions_and_no_empty_attributes_are_left(graph):
    graph_def = reading.read_graph(graph)
    assert not graph_def.library.function
    assert all(value.WhichOneof("value") for node in graph_def.node for value in node.attr.values())


def test_keras_layers_are_used_wherever_there_are_weights(graph):
    source = export_source(graph)
    model = keras_format.build_model(source.graph_def, source.metadata)
    parameters = frozen_graph.stats(graph).parameters
    # Constants of arithmetic, as epsilons and what normalisation multiplies with, are no weights.
    assert model.count_params() > 0.7 * parameters
    assert model.trainable_weights


def unknown(tf, mean, picture):
    return tf.reduce_mean(tf.nn.lrn(picture), [1, 2])


def joined_with_numbers(tf, mean, picture):
    return mean + tf.reduce_sum(tf.concat([mean, [[1.0, 2.0, 3.0]]], 0))


def transposed(tf, mean, picture):
    return tf.matmul(tf.transpose(mean), np.ones((3, 3), np.float32), transpose_a=True)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (unknown, "Keras has no layer for its operation LRN"),
        (joined_with_numbers, r"its operation ConcatV2 .* reads a constant"),
        (transposed, "its operation MatMul .* is not as Keras' layers are"),
    ],
)
def test_a_network_that_keras_has_no_layers_for_is_one_clear_error(tmp_path, build, reason):
    def whole(tf, picture):
        tf.nn.softmax(build(tf, tf.reduce_mean(picture, [1, 2]), picture), name="final_result")

    with pytest.raises(ExportError, match=f"--export keras does not go with this network: {reason}"):
        keras_format.write(export_source(write_graph(tmp_path / "g.pb", whole)), tmp_path / "m.keras")
