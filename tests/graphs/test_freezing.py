import pytest
from builders import built

from retrain.errors import GraphError
from retrain.graphs import freezing
from retrain.preprocessing import InputSpec


@pytest.mark.parametrize(
    "nodes",
    [
        [("a", "Identity", ["b"]), ("b", "Identity", ["a"]), ("out", "Mul", ["input", "a"])],
        [("a", "Identity", []), ("out", "Mul", ["input", "a"])],
        [("out", "Conv2D", ["input"])],
    ],
)
def test_a_graph_that_is_none_is_one_clear_error(nodes):
    import tensorflow as tf

    graph_def = built(lambda tf, image: None)
    for name, operation, inputs in nodes:
        node = graph_def.node.add(name=name, op=operation)
        node.input[:] = inputs
        node.attr["T"].type = tf.float32.as_datatype_enum
    with pytest.raises(GraphError, match="cannot read the graph"):
        freezing.from_graph_def(graph_def, InputSpec("input", height=9, width=9), target="out")
