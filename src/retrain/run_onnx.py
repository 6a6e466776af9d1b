"""Runs classifiers in ONNX files, in ONNX Runtime."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import GraphError, does_not_run, first_line
from retrain.metadata import METADATA_NOTE, Anatomy, Metadata, probabilities, scaled

SUFFIX = ".onnx"
_INSTALL = "Install it with: pip install 'retrain[onnx]'"


def describe(path: Path) -> Metadata:
    """Return what an ONNX model tells of itself: by retrain's note, or by its input and output.

    Raises:
        GraphError: Not an ONNX model of one image and one vector, or ONNX Runtime is not installed.
    """
    session = _session(path)
    notes = session.get_modelmeta().custom_metadata_map
    if METADATA_NOTE in notes:
        return Metadata.from_json(notes[METADATA_NOTE])
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    sides = taken.shape[2:4] if _channels_first(taken) else taken.shape[1:3]
    height, width = (side if isinstance(side, int) else None for side in sides)
    mean, std = (0.0, 1.0) if taken.type == "tensor(uint8)" else (None, None)
    return Metadata(input=taken.name, output=given.name, height=height, width=width, mean=mean, std=std)


def anatomy(path: Path) -> Anatomy:
    """Return what an ONNX model is made of.

    Raises:
        GraphError: Not an ONNX model, or the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise GraphError(f"{path} needs the package onnx. {_INSTALL}") from error
    graph = onnx.load(path).graph
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return Anatomy(Counter(node.op_type for node in graph.node), sum(int(np.prod(tensor.dims)) for tensor in floats))


class OnnxModel:
    """A classifier in an ONNX file."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: Not a classifier of images.
        """
        self.metadata, self._path = described, path
        self._session = _session(path)
        self._taken = self._session.get_inputs()[0]
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if described.output not in outputs:
            raise GraphError(f"{path} gives {', '.join(outputs)}. Name one with --output_layer.")
        count = outputs[described.output][-1] if outputs[described.output] else None
        self.class_count: int | None = count if isinstance(count, int) else None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        values = pixels if self._taken.type == "tensor(uint8)" else scaled(pixels, self.metadata)
        if _channels_first(self._taken):
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        try:
            (result,) = self._session.run([self.metadata.output], {self._taken.name: values})
        except Exception as error:  # ONNX Runtime has its own family of errors, in a private module
            raise does_not_run(self._path, pixels.shape, error) from error
        return probabilities(result)

    def for_thread(self) -> "OnnxModel":
        """Return this classifier: it serves many threads."""
        return self


def _session(path: Path) -> Any:
    if not path.is_file():
        raise GraphError(f"cannot read the model {path}: no such file. --graph names another.")
    try:
        import onnxruntime
    except ImportError as error:
        raise GraphError(f"{path} needs ONNX Runtime. {_INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it would write what is an error line of ours to the terminal itself
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise GraphError(f"{path} is not an ONNX model that runs here: {first_line(error)[:200]}.") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise GraphError(f"{path} takes {[i.shape for i in inputs]}; a classifier takes one batch of RGB images.")
    return session


def _channels_first(taken: Any) -> bool:
    return bool(taken.shape[1] == 3 and taken.shape[3] != 3)
