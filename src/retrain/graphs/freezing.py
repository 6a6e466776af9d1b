"""Freezes networks into graphs from pixels to bottlenecks: one GraphDef without variables and functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from retrain.errors import GraphError, first_line
from retrain.graphs import editing, folding, nodes
from retrain.preprocessing import InputSpec

INPUT = "input"
BOTTLENECK = "bottleneck"


@dataclass(frozen=True)
class FrozenGraph:
    """A frozen backbone: images go in as `input` says; node `target` gives float32 [N, dimension]."""

    graph_def: Any
    input: InputSpec
    target: str
    dimension: int


def from_graph_def(graph_def: Any, spec: InputSpec, *, target: str) -> FrozenGraph:
    """Return the part of a frozen graph between two nodes, ending in a flat bottleneck.

    Args:
        graph_def: A checked GraphDef.
        spec: What its input node takes, in a known size.
        target: Node whose output becomes the bottleneck; [N, h, w, D] is averaged over h and w.

    Raises:
        GraphError: One of both nodes is not there, or the output is no vector per image.
    """
    import tensorflow as tf

    last = nodes.node_name(target)
    part = editing.cut(graph_def, spec, target=last)
    with tf.Graph().as_default() as graph:
        try:
            simple = folding.simplify(part, keep=[spec.node or "", last])
            tf.import_graph_def(nodes.in_tensorflow(simple), name="")
        except (ValueError, tf.errors.OpError) as error:
            raise GraphError(f"TensorFlow cannot read the graph: {first_line(error)}.") from error
        try:
            tensor = graph.get_tensor_by_name(nodes.tensor_name(target))
        except (KeyError, ValueError) as error:
            raise GraphError(f"the graph has no tensor {target!r}: {first_line(error)}.") from error
        flat = _flat(tensor)
        whole = editing.strip_defaults(nodes.from_tensorflow(graph.as_graph_def()))
        return FrozenGraph(whole, spec, flat.op.name, int(flat.shape[1]))


def from_keras(model: Any, *, preprocess: Callable[[Any], Any] | None = None) -> FrozenGraph:
    """Return a Keras model as a frozen graph, batch normalisation in inference mode, the pixels' range unknown.

    Args:
        model: A Keras 3 model of one image input with a known size, float32 [N, height, width, 3].
        preprocess: Applied in front of the model, inside the graph.
    """
    _, height, width, _ = model.input_shape
    before = preprocess or (lambda pixels: pixels)
    return from_function(lambda pixels: model(before(pixels), training=False), height, width)


def from_function(function: Callable[[Any], Any], height: int, width: int) -> FrozenGraph:
    """Return a function from images float32 [N, height, width, 3] to features as a frozen graph."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def to_bottleneck(pixels: Any) -> Any:
        return tf.identity(_flat(function(pixels)), name=BOTTLENECK)

    signature = tf.TensorSpec([None, height, width, 3], tf.float32, name=INPUT)
    # Keras compiles some convolutions as functions of their own, which no other format knows: this writes them out.
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        concrete = tf.function(to_bottleneck, input_signature=[signature]).get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(before)
    frozen = convert_variables_to_constants_v2(concrete)
    graph_def = nodes.from_tensorflow(frozen.graph.as_graph_def())
    target = BOTTLENECK if any(n.name == BOTTLENECK for n in graph_def.node) else frozen.outputs[0].op.name
    return from_graph_def(graph_def, InputSpec(INPUT, height, width), target=target)


def _flat(tensor: Any) -> Any:
    """Return a tensor [N, D] for [N, D], [N, 1, 1, D] and, averaged, [N, h, w, D]."""
    import tensorflow as tf

    shape = tensor.shape
    if tensor.dtype != tf.float32 or shape.rank not in (2, 4) or shape[-1] is None:
        raise GraphError(
            f"{tensor.name} is {tensor.dtype.name} {shape}; a bottleneck must be float32 [N, D] or [N, h, w, D]. "
            f"Name another with --bottleneck_tensor."
        )
    if shape.rank == 2:
        return tensor
    if shape[1] == shape[2] == 1:
        return tf.reshape(tensor, [-1, shape[-1]], name=BOTTLENECK)
    return tf.reduce_mean(tensor, [1, 2], name=BOTTLENECK)
