import pytest
from conftest import write_graph

from retrain import preprocessing
from retrain.errors import GraphError
from retrain.graphs import detection, editing, reading


def graph_def(build, **options):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf)
        return graph.as_graph_def(**options)


def test_a_graph_that_writes_files_is_refused_by_the_nodes_name(tmp_path):
    path = write_graph(
        tmp_path / "evil.pb",
        lambda tf, image: tf.raw_ops.WriteFile(filename=str(tmp_path / "pwned"), contents="x", name="harmless/Relu"),
    )
    with pytest.raises(GraphError, match=r"'harmless/Relu' is a WriteFile operation"):
        reading.read_graph(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("operation", ["ReadFile", "PyFunc", "HashTableV2", "MatchingFiles", "Save", "QueueEnqueueV2"])
def test_operations_that_do_more_than_compute_are_refused(operation):
    import tensorflow as tf

    evil = tf.compat.v1.GraphDef()
    evil.node.add(name="x", op=operation)
    with pytest.raises(GraphError, match=operation):
        reading.check_pure(evil, name="evil.pb")


def test_a_function_cannot_hide_an_operation():
    import tensorflow as tf

    @tf.function
    def hidden(text):
        tf.raw_ops.WriteFile(filename="/nowhere/x", contents=text)
        return text

    concrete = hidden.get_concrete_function(tf.TensorSpec([], tf.string))

    def build(tf):
        tf.raw_ops.PartitionedCall(args=[tf.constant("x")], Tout=[tf.string], f=concrete)

    with pytest.raises(GraphError, match="WriteFile"):
        reading.check_pure(graph_def(build), name="evil.pb")


def test_every_pure_operation_is_one_that_tensorflow_has():
    from tensorflow.python.framework import op_def_registry

    unknown = {name for name in reading.PURE_OPERATIONS if op_def_registry.get(name) is None}
    # Kept for graphs of TensorFlow 1 that still hold these names of the Python layer.
    assert unknown <= {
        "Conv1D",
        "PlaceholderV2",
        "QuantizedBiasAdd",
        "Snapshot",
        "DecodeImage",
        "DecodeWebP",
        "HardSwish",
    }


def test_no_pure_operation_keeps_a_state_beyond_random_numbers():
    from tensorflow.python.framework import op_def_registry

    stateful = {n for n in reading.PURE_OPERATIONS if (d := op_def_registry.get(n)) is not None and d.is_stateful}
    allowed = {
        "Assert",
        "CheckNumerics",
        "Empty",
        "If",
        "Multinomial",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
    }
    assert stateful <= allowed | {"StatefulPartitionedCall", "TruncatedNormal", "While"}


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"not a graph at all", b"\x0a\x00"])
def test_a_file_that_is_no_graph_is_one_clear_error(tmp_path, content):
    (tmp_path / "x.pb").write_bytes(content)
    with pytest.raises(GraphError, match="is not a frozen TensorFlow graph"):
        reading.read_graph(tmp_path / "x.pb")


def test_a_missing_graph_is_named(tmp_path):
    with pytest.raises(GraphError, match="cannot read the graph .*gone.pb"):
        reading.read_graph(tmp_path / "gone.pb")


def test_the_inception_of_2015_is_known_by_its_nodes():
    def build(tf):
        contents = tf.compat.v1.placeholder(tf.string, name="DecodeJpeg/contents")
        image = tf.image.decode_jpeg(contents, channels=3)
        scaled = tf.multiply(tf.cast(tf.expand_dims(image, 0), tf.float32), 1 / 128, name="Mul")
        tf.reduce_mean(scaled, [1, 2], keepdims=True, name="pool_3")

    definition = graph_def(build)
    assert detection.detect_input(definition) == preprocessing.InputSpec("Mul", 299, 299, 128.0, 128.0)
    assert detection.detect_bottleneck(definition) == "pool_3"
    part = editing.cut(definition, source="Mul", target="pool_3", height=299, width=299)
    assert {node.op for node in part.node} == {"Placeholder", "Const", "Mean"}


def test_an_old_hub_export_takes_zero_to_one(mean_colour_backbone):
    told = detection.detect_input(reading.read_graph(mean_colour_backbone))
    assert told == preprocessing.InputSpec("Placeholder", 16, 16, 0.0, 255.0)


def test_cutting_at_a_node_that_is_not_there_offers_the_nearest(mean_colour_backbone):
    with pytest.raises(GraphError, match="mean_colour"):
        editing.cut(
            reading.read_graph(mean_colour_backbone), source="Placeholder", target="mean_color", height=16, width=16
        )


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
    assert (told.tensor, told.mean, told.std) == ("image", None, None)
