import pytest
from builders import graph_def
from conftest import write_graph

from retrain.errors import GraphError
from retrain.graphs import reading


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
