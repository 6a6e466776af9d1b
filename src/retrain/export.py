"""Joins backbone and head into each exported format, and loads them back; the only place that names artefact files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import graphs
from retrain.errors import ExportError, GraphError, first_line
from retrain.files import aside, write_whole

METADATA_NODE = "retrain_metadata"
LOGITS = "final_training_ops/Wx_plus_b/add"
WEIGHTS = "final_training_ops/weights/final_weights"
BIASES = "final_training_ops/biases/final_biases"
_SCORED_AT_ONCE = 4096


@dataclass(frozen=True)
class Metadata:
    """What a model file says of itself: labels, its input and output, and what trained it.

    The input takes `(pixel - mean) / std` of RGB pixels 0 to 255, [N, height, width, 3]. What is not known of a
    graph from elsewhere is None.
    """

    labels: tuple[str, ...] = ()
    input: str | None = None
    output: str | None = None
    bottleneck: str | None = None
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    architecture: str | None = None
    test_accuracy: float | None = None
    retrain_version: str | None = None
    tensorflow_version: str | None = None


def labels_path(graph: Path) -> Path:
    """Return where the labels file of a graph is by the codelab's habit: `retrained_labels.txt` beside it."""
    return graph.with_name(graph.name.replace("graph", "labels")).with_suffix(".txt")


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


def write_graph(
    path: Path,
    *,
    backbone: Path,
    source: str,
    target: str,
    weights: np.ndarray,
    biases: np.ndarray,
    output: str,
    metadata: Metadata,
) -> None:
    """Write the frozen graph: images at `source`, probabilities at `output`, and what it is inside it.

    Args:
        path: The file to write, complete or not at all.
        backbone: A frozen graph file.
        source: Its input node.
        target: Its bottleneck node, float32 [N, D].
        weights: float32 [D, C].
        biases: float32 [C].
        output: Name of the softmax node.
        metadata: Goes into the constant node `METADATA_NODE` as JSON.

    Raises:
        ExportError: The file cannot be written, or `output` is a name that the backbone uses already.
    """
    import tensorflow as tf

    # The name that the original's own scopes ended in: with an input node named "input", its scope became input_1.
    scope = "input_1" if source == "input" else "input"
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graphs.read(backbone), name="")
        taken = {operation.name for operation in graph.get_operations()}
        if output in taken:
            raise ExportError(f"the backbone has a node named {output!r} itself. Give another --final_tensor_name.")
        bottleneck = tf.compat.v1.placeholder_with_default(
            graph.get_tensor_by_name(graphs.tensor_name(target)),
            [None, len(weights)],
            name=f"{scope}/BottleneckInputPlaceholder",
        )
        product = tf.matmul(bottleneck, tf.constant(weights, name=WEIGHTS), name="final_training_ops/Wx_plus_b/MatMul")
        # Add and not AddV2, which TensorFlow has only since 1.14.
        logits = tf.raw_ops.Add(x=product, y=tf.constant(biases, name=BIASES), name=LOGITS)
        tf.nn.softmax(logits, name=output)
        described = replace(metadata, input=source, output=output, bottleneck=bottleneck.op.name)
        tf.constant(json.dumps(asdict(described), sort_keys=True), name=METADATA_NODE)
        data = graph.as_graph_def().SerializeToString(deterministic=True)
    _write(path, data)


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write one class name a line, in the order of the class ids; a line break in a name becomes a space.

    Raises:
        ExportError: The file cannot be written.
    """
    text = "".join(" ".join(label.splitlines() or [label]) + "\n" for label in labels)
    _write(path, text.encode("utf-8", "surrogateescape"))


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a labels file, one a line.

    Raises:
        GraphError: The file cannot be read.
    """
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise GraphError(
            f"cannot read the labels file {path}: {error.strerror}. Name the right one with --labels."
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


class GraphModel:
    """A classifier in a frozen graph file, loaded to be run."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the graph; `described` comes from `describe`, with the user's own values filled in."""
        import tensorflow as tf

        self.metadata = described
        graph_def = _without_fixed_batch(graphs.read(path), described.input or "")
        self._function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
        self._path = path
        self._probabilities = self._prune(described.input, described.output)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        return self._run(self._probabilities, self._images(pixels))

    @property
    def class_count(self) -> int | None:
        """Return C, None where the graph does not tell it beforehand."""
        shape = self._probabilities.outputs[0].shape
        return None if shape.rank is None else shape[-1]

    def bottlenecks(self, pixels: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [N, D] of images uint8 [N, H, W, 3], on their way through the file."""
        return self._run(self._prune(self.metadata.input, self.metadata.bottleneck), self._images(pixels))

    def from_bottlenecks(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for bottlenecks float32 [N, D], fed behind the backbone."""
        return self._run(self._prune(self.metadata.bottleneck, self.metadata.output), bottlenecks)

    def _images(self, pixels: np.ndarray) -> np.ndarray:
        images: np.ndarray = pixels.astype(np.float32) - np.float32(self.metadata.mean or 0.0)
        images /= np.float32(self.metadata.std or 1.0)
        return images

    def _run(self, network: Any, values: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            return network(tf.constant(values)).numpy()  # type: ignore[no-any-return]
        except (ValueError, tf.errors.OpError) as error:
            size = " x ".join(str(side) for side in values.shape[2:0:-1])
            raise GraphError(f"{self._path} does not run on {size} px images: {first_line(error)}.") from error

    def _prune(self, *ends: str | None) -> Any:
        """Return the part of the graph between two nodes as a function."""
        try:
            tensors = [self._function.graph.get_tensor_by_name(graphs.tensor_name(name or "")) for name in ends]
        except (KeyError, ValueError) as error:
            hint = "Name the nodes with --input_layer and --output_layer."
            raise GraphError(f"{self._path}: {first_line(error)}. {hint}") from error
        return self._function.prune(*tensors)


def describe(path: Path) -> Metadata:
    """Return what a frozen graph file tells of itself, from its metadata or else from its nodes.

    Raises:
        GraphError: Not a graph, or refused.
    """
    graph_def = graphs.read(path)
    for node in graph_def.node:
        if node.name == METADATA_NODE:
            import tensorflow as tf

            fields = json.loads(tf.make_ndarray(node.attr["value"].tensor).item())
            return Metadata(**{**fields, "labels": tuple(fields["labels"])})
    told = graphs.image_input(graph_def)
    outputs = graphs.output_nodes(graph_def)
    output = "final_result" if "final_result" in outputs else outputs[0] if len(outputs) == 1 else None
    return Metadata(
        input=told.tensor, output=output, height=told.height, width=told.width, mean=told.mean, std=told.std
    )


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


def _without_fixed_batch(graph_def: Any, source: str) -> Any:
    """Open the batch dimension of the image placeholder, which the official MobileNets fix at 1."""
    for node in graph_def.node:
        if node.name == source and node.op == "Placeholder" and len(node.attr["shape"].shape.dim) == 4:
            node.attr["shape"].shape.dim[0].size = -1
    return graph_def


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another path or free some space.") from error
