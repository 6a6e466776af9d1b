"""Loads exported models and runs them on images: frozen graphs in TensorFlow, LiteRT models without it."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrain import graphs, litert, recognition
from retrain.errors import GraphError, first_line

METADATA_NODE = "retrain_metadata"  # the constant node of a graph that holds its metadata
METADATA_NOTE = "RETRAIN_METADATA"  # the same in a LiteRT model


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
    graph_sha256: str | None = None

    def to_json(self) -> str:
        """Return the fields as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def summary(self) -> str:
        """Return one line on what goes in and what comes out; "?" for what is not known."""

        def known(value: object) -> str:
            return "?" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

        return (
            f"input {known(self.input)}, {known(self.width)} x {known(self.height)} px, "
            f"(pixel - {known(self.mean)}) / {known(self.std)}; output {known(self.output)}, {len(self.labels)} labels"
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Return what `to_json` wrote; fields that a later version added are passed over.

        Raises:
            ValueError: Not such JSON.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("labels"), list):
            raise ValueError("no metadata of retrain")
        known = {name: value for name, value in content.items() if name in {field.name for field in fields(cls)}}
        return cls(**{**known, "labels": tuple(known["labels"])})


class Classifier(Protocol):
    """What every loaded model offers; a call gives probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""

    metadata: Metadata
    class_count: int | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""


def describe(path: Path) -> Metadata:
    """Return what a model file tells of itself, from its metadata or else from its nodes.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    if path.suffix == ".tflite":
        return _litert_metadata(path)
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
        return self._run(self.metadata.input, self.metadata.output, scaled(pixels, self.metadata))

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
            size = " x ".join(str(side) for side in values.shape[2:0:-1])
            raise GraphError(f"{self._path} does not run on {size} px images: {first_line(error)}.") from error
        return result

    def _tensor(self, name: str | None) -> Any:
        try:
            return self._graph.get_tensor_by_name(graphs.tensor_name(name or ""))
        except (KeyError, ValueError) as error:
            hint = "Name the nodes with --input_layer and --output_layer."
            raise GraphError(f"{self._path}: {first_line(error)}. {hint}") from error


class LiteRTModel:
    """A classifier in a LiteRT file, run image by image on one core; TensorFlow is not imported."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in."""
        from ai_edge_litert.interpreter import Interpreter

        self.metadata = described
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"{path} is not a LiteRT model that runs here: {first_line(error)}.") from error
        self._taken, self._given = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self.class_count: int | None = int(self._given["shape"][-1])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        return np.concatenate([self._run(image) for image in scaled(pixels, self.metadata)])

    def _run(self, image: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._taken["index"], image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._given["index"])  # type: ignore[no-any-return]


def scaled(pixels: np.ndarray, described: Metadata) -> np.ndarray:
    """Return float32 `(pixel - mean) / std` of pixels uint8."""
    values: np.ndarray = pixels.astype(np.float32) - np.float32(described.mean or 0.0)
    values /= np.float32(described.std or 1.0)
    return values


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


def _litert_metadata(path: Path) -> Metadata:
    try:
        note = litert.read_note(path, METADATA_NOTE)
        return Metadata.from_json(note) if note else Metadata()
    except OSError as error:
        raise GraphError(f"cannot read the model {path}: {error.strerror}. --graph names another.") from error
    except ValueError as error:
        raise GraphError(f"{path} is not a LiteRT model ({first_line(error)}).") from error


def _without_fixed_batch(graph_def: Any, source: str) -> Any:
    """Open the batch dimension of the image placeholder, which the official MobileNets fix at 1."""
    for node in graph_def.node:
        if node.name == source and node.op == "Placeholder" and len(node.attr["shape"].shape.dim) == 4:
            node.attr["shape"].shape.dim[0].size = -1
    return graph_def
