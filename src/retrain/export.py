"""Joins backbone and head into each exported format; the only place that names artefact files."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrain import graphs, litert
from retrain.classifier import METADATA_NODE, METADATA_NOTE, Metadata
from retrain.errors import ExportError, GraphError
from retrain.files import aside, write_whole
from retrain.head import Head

HEAD_SCOPE = "final_training_ops"  # what TensorFlow for Poets calls the last layer
HUB_HEAD_SCOPE = "final_retrain_ops"  # what the retrain.py of TF-Hub calls it
SAVED_MODEL_MARK = "retrain.json"  # in a SavedModel that retrain wrote, and may replace
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


def write_litert(graph: Path, *, backbone: Path, head: Head, output: str, metadata: Metadata) -> Path:
    """Write the same classifier as a LiteRT model beside its frozen graph and return its path.

    Args:
        graph: The frozen graph, which the model names by its SHA-256, so that it is never taken for another's.
        backbone: The backbone as a LiteRT model.
        head: Takes the bottlenecks.
        output: Name of the output tensor.
        metadata: As in the graph.

    Raises:
        ExportError: The file cannot be written.
    """
    described = replace(metadata, output=output, graph_sha256=hashlib.sha256(graph.read_bytes()).hexdigest())
    notes = {METADATA_NOTE: described.to_json().encode()}
    write(
        litert_path(graph),
        litert.with_head(backbone.read_bytes(), head, output=output, notes=notes),
    )
    return litert_path(graph)


def write_saved_model(folder: Path, graph: Path, described: Metadata) -> None:
    """Write a frozen graph as the SavedModel that `retrain.py --saved_model_dir` wrote.

    Its signature `serving_default` takes `image`, float32 [N, height, width, 3] in [0, 1], and gives `prediction`,
    float32 [N, C]. It holds no functions, so that TensorFlow 1 loads it too.

    Args:
        folder: Made by this; one that this wrote before is replaced.
        graph: What `write_graph` wrote.
        described: What the graph says of itself.

    Raises:
        ExportError: The folder cannot be written.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    draft = aside(folder)
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            image = v1.placeholder(tf.float32, [None, described.height, described.width, 3], name="image")
            pixels = (image * 255.0 - (described.mean or 0.0)) / (described.std or 1.0)
            (prediction,) = tf.graph_util.import_graph_def(
                graphs.read(graph), {described.input: pixels}, [f"{described.output}:0"], name=""
            )
            signature = v1.saved_model.predict_signature_def({"image": image}, {"prediction": prediction})
            builder = v1.saved_model.Builder(str(draft))
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.SERVING], {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
            )
            builder.save()
        (draft / SAVED_MODEL_MARK).write_text(described.to_json())
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror}. Give another --saved_model_dir.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_saved_model_dir(folder: Path) -> None:
    """Fail now, not after the training, where a SavedModel would take the place of something else.

    Raises:
        ExportError: The folder holds other things than a SavedModel that retrain wrote, or cannot be made.
    """
    check_writable(folder / "saved_model.pb")
    if any(folder.iterdir()) and not (folder / SAVED_MODEL_MARK).exists():
        raise ExportError(f"{folder} holds other files already. Give --saved_model_dir a folder that does not exist.")


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write one class name a line, in the order of the class ids; a line break in a name becomes a space.

    Raises:
        ExportError: The file cannot be written.
    """
    text = "".join(" ".join(label.splitlines() or [label]) + "\n" for label in labels)
    write(path, text.encode("utf-8", "surrogateescape"))


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
