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


def small(tf):
    return tf.nn.softmax(tf.compat.v1.placeholder(tf.float32, [None, 2], name="x"), name="out")


def test_a_graph_of_more_nodes_than_any_network_is_refused():
    made = graph_def(small)
    for number in range(reading.MAX_NODES):
        made.node.add(name=f"n{number}", op="Identity").input[:] = [f"n{number - 1}" if number else "out"]
    with pytest.raises(GraphError, match=r"^g is refused: it has 100,00\d nodes"):
        reading.check_pure(made, name="g")


def test_two_nodes_of_one_name_are_damage():
    made = graph_def(small)
    made.node.add().CopyFrom(made.node[0])
    with pytest.raises(GraphError, match="^g is damaged: it has two nodes named 'x'"):
        reading.check_pure(made, name="g")


@pytest.mark.parametrize("calls", [{"f0": ["f0"]}, {f"f{n}": [f"f{n + 1}"] * 4 for n in range(12)}])
def test_functions_that_write_out_to_a_bomb_are_refused(calls):
    made = graph_def(small)
    for name, called in {**calls, f"f{len(calls)}": []}.items():
        if name not in {function.signature.name for function in made.library.function}:
            function = made.library.function.add()
            function.signature.name = name
            for number, other in enumerate(called):
                function.node_def.add(name=f"c{number}", op="PartitionedCall").attr["f"].func.name = other
    made.node.add(name="call", op="PartitionedCall").attr["f"].func.name = "f0"
    with pytest.raises(
        GraphError, match=r"^g is refused: its functions (call themselves|write out to 22,\d+,\d+ nodes)"
    ):
        reading.check_pure(made, name="g")


def test_a_tensor_that_would_fill_the_memory_is_refused():
    with pytest.raises(GraphError, match="^g is refused: its node 'all' fills more than"):
        reading.check_pure(
            graph_def(lambda tf: tf.raw_ops.Fill(dims=[2, 2_000_000_000], value=1.0, name="all")), name="g"
        )


def test_constants_that_repeat_far_too_many_numbers_are_refused(tmp_path):
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    for name in ("a", "b"):
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0))
        node.attr["value"].tensor.tensor_shape.CopyFrom(tf.TensorShape([2**14, 2**13 + 1]).as_proto())
    (tmp_path / "g.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(GraphError, match=r"g\.pb is refused: its constants repeat 268,468,224 numbers"):
        reading.read_graph(tmp_path / "g.pb")
