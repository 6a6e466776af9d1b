"""Runs classifiers in frozen graphs, in TensorFlow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import graphs, recognition
from retrain.errors import GraphError, does_not_run, first_line
from retrain.metadata import METADATA_NODE, Anatomy, Metadata, probabilities, scaled


def describe(path: Path) -> Metadata:
    """Return what a frozen graph tells of itself, from its metadata or else from its nodes.

    Raises:
        GraphError: Not a frozen graph, or refused.
    """
    graph_def = graphs.read(path)
    for node in graph_def.node:
        if node.name == METADATA_NODE:
            import tensorflow as tf

            return Metadata.from_json(tf.make_ndarray(node.attr["value"].tensor).item())
    told = recognition.image_input(graph_def)
    outputs = recognition.output_nodes(graph_def)
    output = "final_result" if "final_result" in outputs else outputs[0] if len(outputs) == 1 else None
    return Metadata(
        input=told.tensor, output=output, height=told.height, width=told.width, mean=told.mean, std=told.std
    )


def anatomy(path: Path) -> Anatomy:
    """Return what a frozen graph is made of.

    Raises:
        GraphError: Not a frozen graph, or refused.
    """
    graph_def = graphs.read(path)
    return Anatomy(graphs.operations(graph_def), graphs.parameters(graph_def))


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
        graph_def = _without_fixed_batch(graphs.read(path), described.input or "")
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
        return probabilities(self._run(self.metadata.input, self.metadata.output, scaled(pixels, self.metadata)))

    def for_thread(self) -> "GraphModel":
        """Return this classifier: a session serves many threads."""
        return self

    def bottlenecks(self, pixels: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [N, D] of images uint8 [N, H, W, 3], on their way through the file."""
        return self._run(self.metadata.input, self.metadata.bottleneck, scaled(pixels, self.metadata))

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
            return self._graph.get_tensor_by_name(graphs.tensor_name(name or ""))
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
            node.CopyFrom(graphs.constant(METADATA_NODE, np.array(told.to_json(), object)))
    return changed


def _without_fixed_batch(graph_def: Any, source: str) -> Any:
    """Open the batch dimension of the image placeholder, which the official MobileNets fix at 1."""
    for node in graph_def.node:
        if node.name == source and node.op == "Placeholder" and len(node.attr["shape"].shape.dim) == 4:
            node.attr["shape"].shape.dim[0].size = -1
    return graph_def
