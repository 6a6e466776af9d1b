"""Frozen TensorFlow graphs: joins backbone and head, writes and runs them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, GraphError, first_line
from retrain.formats.classifier import ModelStats, as_probabilities, does_not_run
from retrain.graphs import detection, editing, nodes, reading
from retrain.head import Head
from retrain.metadata import METADATA_NODE, Metadata
from retrain.preprocessing import scale_pixels

HEAD_SCOPE = "final_training_ops"  # what TensorFlow for Poets calls the last layer
HUB_HEAD_SCOPE = "final_retrain_ops"  # what the retrain.py of TF-Hub calls it


def join(
    *,
    backbone: Path,
    source: str,
    target: str,
    head: Head,
    output: str,
    metadata: Metadata,
    scope: str = HEAD_SCOPE,
) -> bytes:
    """Return the frozen graph: images at `source`, probabilities at `output`, and what it is inside it.

    Args:
        backbone: A frozen graph file.
        source: Its input node.
        target: Its bottleneck node, float32 [N, D].
        head: Takes the bottlenecks.
        output: Name of the softmax node.
        metadata: Goes into the constant node `METADATA_NODE` as JSON.
        scope: First part of the names of the head's nodes.

    Raises:
        ExportError: `output` is a name that the backbone uses already.
    """
    import tensorflow as tf

    # The name that the original's own scopes ended in: with an input node named "input", its scope became input_1.
    around_bottleneck = "input_1" if source == "input" else "input"
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(reading.read_graph(backbone), name="")
        taken = {operation.name for operation in graph.get_operations()}
        if output in taken:
            raise ExportError(f"the backbone has a node named {output!r} itself. Give another --final_tensor_name.")
        bottleneck = tf.compat.v1.placeholder_with_default(
            graph.get_tensor_by_name(nodes.tensor_name(target)),
            [None, len(head.layers[0].weights)],
            name=f"{around_bottleneck}/BottleneckInputPlaceholder",
        )
        values = bottleneck
        for layer, names in zip(head.layers, head.names(scope), strict=True):
            matrix = tf.constant(layer.weights, name=names.weights)
            vector = tf.constant(layer.biases, name=names.biases)
            product = tf.matmul(values, matrix, name=f"{names.scope}/MatMul")
            # Add and not AddV2, which TensorFlow has only since 1.14.
            values = tf.raw_ops.Add(x=product, y=vector, name=f"{names.scope}/add")
            if layer is not head.last:
                values = tf.nn.relu(values, name=f"{names.scope}/Relu")
        tf.nn.softmax(values, name=output)
        described = replace(metadata, input=source, output=output, bottleneck=bottleneck.op.name)
        tf.constant(described.to_json(), name=METADATA_NODE)
        joined = editing.strip_defaults(graph.as_graph_def())
    return joined.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def describe(path: Path) -> Metadata:
    """Return what a frozen graph tells of itself, from its metadata or else from its nodes.

    Raises:
        GraphError: Not a frozen graph, or refused.
    """
    graph_def = reading.read_graph(path)
    for node in graph_def.node:
        if node.name == METADATA_NODE:
            import tensorflow as tf

            return Metadata.from_json(tf.make_ndarray(node.attr["value"].tensor).item())
    told = detection.detect_input(graph_def)
    outputs = detection.detect_outputs(graph_def)
    output = "final_result" if "final_result" in outputs else outputs[0] if len(outputs) == 1 else None
    return Metadata(
        input=told.tensor, output=output, height=told.height, width=told.width, mean=told.mean, std=told.std
    )


def stats(path: Path) -> ModelStats:
    """Return what a frozen graph is made of.

    Raises:
        GraphError: Not a frozen graph, or refused.
    """
    graph_def = reading.read_graph(path)
    return ModelStats(nodes.count_operations(graph_def), nodes.count_parameters(graph_def))


class GraphModel:
    """A classifier in a frozen graph file, loaded to be run in TensorFlow."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the graph; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: It has not the nodes that `described` names.
        """
        import tensorflow as tf

        self.metadata = described
        self._path = path
        graph_def = _without_fixed_batch(reading.read_graph(path), described.input or "")
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        # A session runs any part of a graph at once; functions would have to be cut out of it first.
        self._session = tf.compat.v1.Session(graph=self._graph)
        self._tensor(described.input)
        shape = self._tensor(described.output).shape
        self.class_count: int | None = None if shape.rank is None else shape.as_list()[-1]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        return as_probabilities(
            self._run(self.metadata.input, self.metadata.output, scale_pixels(pixels, self.metadata))
        )

    def for_thread(self) -> "GraphModel":
        """Return this classifier: a session serves many threads."""
        return self

    def bottlenecks(self, pixels: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [N, D] of images uint8 [N, H, W, 3], on their way through the file."""
        return self._run(self.metadata.input, self.metadata.bottleneck, scale_pixels(pixels, self.metadata))

    def from_bottlenecks(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for bottlenecks float32 [N, D], fed behind the backbone."""
        return self._run(self.metadata.bottleneck, self.metadata.output, bottlenecks)

    def _run(self, source: str | None, target: str | None, values: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            result: np.ndarray = self._session.run(self._tensor(target), {self._tensor(source): values})
        except (ValueError, tf.errors.OpError) as error:
            raise does_not_run(self._path, values.shape, error) from error
        return result

    def _tensor(self, name: str | None) -> Any:
        try:
            return self._graph.get_tensor_by_name(nodes.tensor_name(name or ""))
        except (KeyError, ValueError) as error:
            hint = "Name the nodes with --input_layer and --output_layer."
            raise GraphError(f"{self._path}: {first_line(error)}. {hint}") from error


def without_accuracy(graph_def: Any) -> Any:
    """Return a graph whose metadata, if it has any, does not claim the accuracy of the graph that it was made from."""
    import tensorflow as tf

    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    for node in changed.node:
        if node.name == METADATA_NODE:
            told = Metadata.from_json(tf.make_ndarray(node.attr["value"].tensor).item())
            told = replace(told, test_accuracy=None)
            node.CopyFrom(nodes.constant_node(METADATA_NODE, np.array(told.to_json(), object)))
    return changed


def _without_fixed_batch(graph_def: Any, source: str) -> Any:
    """Open the batch dimension of the image placeholder, which the official MobileNets fix at 1."""
    for node in graph_def.node:
        if node.name == source and node.op == "Placeholder" and len(node.attr["shape"].shape.dim) == 4:
            node.attr["shape"].shape.dim[0].size = -1
    return graph_def
