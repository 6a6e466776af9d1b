"""Joins backbone and head into a frozen graph, and writes files whole; names the files beside a graph."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrain import graphs
from retrain.errors import ExportError, GraphError
from retrain.files import aside, write_whole
from retrain.head import Head
from retrain.metadata import METADATA_NODE, Metadata, labels_file, labels_of

HEAD_SCOPE = "final_training_ops"  # what TensorFlow for Poets calls the last layer
HUB_HEAD_SCOPE = "final_retrain_ops"  # what the retrain.py of TF-Hub calls it
_SCORED_AT_ONCE = 4096


def labels_path(graph: Path) -> Path:
    """Return where the labels file of a graph is by the codelab's habit: `retrained_labels.txt` beside it."""
    return graph.with_name(graph.name.replace("graph", "labels")).with_suffix(".txt")


def litert_path(graph: Path) -> Path:
    """Return where the LiteRT form of a frozen graph lies: beside it, under the same name."""
    return graph.with_suffix(".tflite")


def check_writable(*paths: Path) -> None:
    """Make the folders of some results and fail now, not after the training, where one cannot be written.

    Raises:
        ExportError: Names the path.
    """
    for path in paths:
        probe = aside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror}. Give another path or mend its permissions."
            ) from error


def joined_graph(
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
        tf.import_graph_def(graphs.read(backbone), name="")
        taken = {operation.name for operation in graph.get_operations()}
        if output in taken:
            raise ExportError(f"the backbone has a node named {output!r} itself. Give another --final_tensor_name.")
        bottleneck = tf.compat.v1.placeholder_with_default(
            graph.get_tensor_by_name(graphs.tensor_name(target)),
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
        joined = graphs.without_defaults(graph.as_graph_def())
    return joined.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write one class name a line, in the order of the class ids; a line break in a name becomes a space.

    Raises:
        ExportError: The file cannot be written.
    """
    write(path, labels_file(labels))


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a labels file, one a line.

    Raises:
        GraphError: The file cannot be read.
    """
    try:
        return labels_of(path.read_bytes())
    except OSError as error:
        raise GraphError(
            f"cannot read the labels file {path}: {error.strerror}. Name the right one with --labels."
        ) from error


def score(
    probabilities: Callable[[np.ndarray], np.ndarray],
    read: Callable[[np.ndarray], np.ndarray],
    examples: np.ndarray,
    class_count: int,
) -> np.ndarray:
    """Return the probabilities float32 [n, C] of examples, a few thousand bottlenecks in memory at a time.

    Args:
        probabilities: From bottlenecks float32 [n, D] to probabilities float32 [n, C].
        read: From indices int64 [n] to bottlenecks.
        examples: int64 [n], indices.
        class_count: C.
    """
    scored = np.zeros((len(examples), class_count), np.float32)
    for start in range(0, len(examples), _SCORED_AT_ONCE):
        rows = slice(start, start + _SCORED_AT_ONCE)
        scored[rows] = probabilities(read(examples[rows]))
    return scored


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        ExportError: It cannot be written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another path or free some space.") from error
