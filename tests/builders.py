"""Builds the small graphs, modules and files that several tests look at."""

import functools
import io
import re

import numpy as np
from conftest import COLOURS, write_graph
from PIL import Image

from retrain import files
from retrain.data import decoding, decoding_in_graph
from retrain.formats import frozen_graph
from retrain.formats.classifier import ExportSource, TrainedClassifier
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.formats.table import path_of
from retrain.graphs import nodes, reading
from retrain.head import linear
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec
from retrain.terminal import Terminal

LABELS = ("red", "green", "blue")
NAMES, SIZE = sorted(COLOURS), 64  # of the classifier that every format is made of
RNG = np.random.default_rng(0)


def exported(backbone, path, output="final_result", keep_aspect_ratio=None, **fields):
    weights = np.eye(3, dtype=np.float32) * 9
    metadata = Metadata(**{"labels": LABELS, "architecture": "mean", **fields})
    head = linear(weights, np.zeros(3, np.float32))
    classifier = mean_classifier(backbone, head, output=output, keep_aspect_ratio=keep_aspect_ratio)
    files.write_result(path, frozen_graph.join(classifier, metadata))
    return path


def mean_classifier(backbone, head, output="final_result", litert=None, keep_aspect_ratio=None):
    """Return a head on `mean_colour_backbone`."""
    spec = InputSpec("Placeholder", 16, 16, 0.0, 255.0, keep_aspect_ratio)
    return TrainedClassifier(backbone, litert, spec, "mean_colour", head, output, frozen_graph.HEAD_SCOPE)


def with_litert(graph, backbone):
    """Write the LiteRT form of a graph that `exported` wrote beside it, and return the graph."""
    litert = graph.with_name("backbone.tflite")
    head = linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    classifier = mean_classifier(backbone, head, litert=litert)
    converted = conversion.to_float32(reading.read_graph(backbone), classifier.input, target=classifier.target)
    litert.write_bytes(converted)
    model = litert_model.join(classifier, frozen_graph.describe(graph), sha256=files.sha256_of(graph))
    files.write_result(path_of(graph, "tflite"), model)
    return graph


def exported_head(path, name):
    """Return the values of a constant in a frozen graph."""
    import tensorflow as tf

    (node,) = [node for node in reading.read_graph(path).node if node.name == name]
    return tf.make_ndarray(node.attr["value"].tensor)


def graph_model(path):
    """Return the classifier in a frozen graph, run in TensorFlow whatever lies beside it."""
    return frozen_graph.load(path, frozen_graph.describe(path))


def export_source(path, images=()):
    """Return a frozen graph as what other formats are written from."""
    graph_def = reading.read_graph(path)
    return ExportSource(graph_def, frozen_graph.metadata_of(graph_def), files.sha256_of(path), lambda: images)


def built(build):
    """Return the GraphDef that `build(tf, image)` makes; its last node is named `out`."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf, tf.compat.v1.placeholder(tf.float32, [None, 9, 9, 3], name="input"))
    return nodes.from_tensorflow(graph.as_graph_def())


def run(graph_def, output="out"):
    import tensorflow as tf

    image = np.random.default_rng(1).normal(size=(2, 9, 9, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(nodes.in_tensorflow(graph_def), name="")
        return session.run(f"{output}:0", {graph.get_tensor_by_name("input:0"): image})


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def colour_module(size=None):
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.scale = tf.Variable([1.0, 2.0, 3.0])

        @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [1, 2]) * self.scale

    return Module()


def quarters(size=(64, 48), last="white"):
    """Return red, green, blue and another colour, one in each corner: all that turn or mirror it make another one."""
    picture = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    places = ((0, 0), (width, 0), (0, height), (width, height))
    for place, colour in zip(places, ("red", "lime", "blue", last), strict=True):
        picture.paste(colour, (*place, place[0] + width, place[1] + height))
    return picture


def as_stored(picture, orientation):
    """Return the picture that stands upright once it is turned as an EXIF orientation asks for."""
    way = Image.Transpose
    undo = [
        None, way.FLIP_LEFT_RIGHT, way.ROTATE_180, way.FLIP_TOP_BOTTOM, way.TRANSPOSE, way.ROTATE_90, way.TRANSVERSE,
        way.ROTATE_270,
    ][orientation - 1]  # fmt: skip
    return picture if undo is None else picture.transpose(undo)


def encoded(picture, kind, **options):
    """Return a picture as a file of one of Pillow's formats."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(path):
    return decoding.decode(path.read_bytes(), height=SIZE, width=SIZE)


@functools.cache
def graph_decoder(height, width, keep_aspect_ratio=None):
    """Return a function of whole image files, which TensorFlow decodes to float32 [N, height, width, 3]."""
    import tensorflow as tf

    decode = functools.partial(
        decoding_in_graph.decode, height=height, width=width, keep_aspect_ratio=keep_aspect_ratio
    )
    return tf.function(
        lambda files: tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec([height, width, 3])),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def rows_of(done):
    lines = done.stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("format "))
    return [re.split(r"\s{2,}", line) for line in lines[head + 1 :]]


def write_tf1_hub_module(folder, size=24, initialiser=None, kernel=None):
    """Write what tensorflow_hub's exporter of TensorFlow 1 wrote: a signature "default" and no tags.

    `kernel` is that of a convolution in front, if any.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, size, size, 3], name="images")
        scale = v1.get_variable("scale", initializer=[1.0, 2.0, 3.0], use_resource=False)
        maps = images
        if kernel is not None:
            maps = tf.nn.conv2d(images, v1.get_variable("kernel", initializer=kernel, use_resource=False), 1, "SAME")
        features = tf.reduce_mean(maps, [1, 2]) * scale
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.build_signature_def(
            {"images": v1.saved_model.build_tensor_info(images)},
            {"default": v1.saved_model.build_tensor_info(features)},
        )
        builder = v1.saved_model.Builder(str(folder))
        main_op = None
        if initialiser:
            main_op = tf.raw_ops.SaveV2(
                prefix=initialiser, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)], name="evil"
            )
        builder.add_meta_graph_and_variables(session, [], {"default": signature}, main_op=main_op)
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


def small_keras(rescaling, top=True):
    import keras

    layers = [keras.Input((20, 20, 3))]
    layers += [keras.layers.Rescaling(1 / 255)] if rescaling else []
    layers += [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    layers += [keras.layers.Dense(10, activation="softmax")] if top else []
    return keras.Sequential(layers)


def graph_def(build, **options):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf)
        return nodes.from_tensorflow(graph.as_graph_def(**options))


def old_graph(path, size=16):
    return write_graph(path, lambda tf, image: tf.nn.softmax(tf.reduce_mean(image, [1, 2]), name="final_result"), size)


def terminal(**options):
    out, err = io.StringIO(), io.StringIO()
    return Terminal(out=out, err=err, **options), out, err
