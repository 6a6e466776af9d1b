import pytest
from builders import graph_def

from retrain import preprocessing
from retrain.graphs import detection, editing, reading


def test_the_inception_of_2015_is_known_by_its_nodes():
    def build(tf):
        contents = tf.compat.v1.placeholder(tf.string, name="DecodeJpeg/contents")
        image = tf.image.decode_jpeg(contents, channels=3)
        scaled = tf.multiply(tf.cast(tf.expand_dims(image, 0), tf.float32), 1 / 128, name="Mul")
        tf.reduce_mean(scaled, [1, 2], keepdims=True, name="pool_3")

    definition = graph_def(build)
    assert detection.detect_input(definition) == preprocessing.InputSpec("Mul", 299, 299, 128.0, 128.0)
    assert detection.detect_bottleneck(definition) == "pool_3"
    part = editing.cut(definition, detection.detect_input(definition), target="pool_3")
    assert {node.op for node in part.node} == {"Placeholder", "Const", "Mean"}


def test_an_old_hub_export_takes_zero_to_one(mean_colour_backbone):
    told = detection.detect_input(reading.read_graph(mean_colour_backbone))
    assert told == preprocessing.InputSpec("Placeholder", 16, 16, 0.0, 255.0)


def chain(*nodes):
    """Return a GraphDef of an image that goes through nodes, (name, operation, inputs), after constants 0 and 127.5."""
    import tensorflow as tf

    def build(tf):
        tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
        tf.constant(0.0, name="zero")
        tf.constant(127.5, name="half")

    with tf.Graph().as_default() as graph:
        build(tf)
    made = graph.as_graph_def()
    for name, operation, inputs in nodes:
        made.node.add(name=name, op=operation).input[:] = inputs
    return made


@pytest.mark.parametrize(
    "nodes",
    [
        [("out", "RealDiv", ["image", "zero"])],
        [("out", "RealDiv", ["half", "image"])],
        [("out", "Sub", ["half", "image"])],
        [("out", "FakeQuantWithMinMaxVars", ["image", "image", "image"])],
        [("a", "Identity", ["b"]), ("b", "Identity", ["a"]), ("out", "Mul", ["image", "a"])],
        [("a", "Identity", []), ("out", "Mul", ["image", "a"])],
        [("out", "Mul", ["image", "image"])],
    ],
)
def test_a_strange_graph_tells_no_range_and_does_no_harm(nodes):
    told = detection.detect_input(chain(*nodes))
    assert (told.node, told.mean, told.std) == ("image", None, None)
