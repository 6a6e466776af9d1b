"""LiteRT classifiers: writes them, and runs them image by image on one core, without TensorFlow."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.errors import GraphError, first_line
from retrain.formats.classifier import ModelStats, as_probabilities, does_not_run
from retrain.formats.litert import conversion, flatbuffer
from retrain.formats.litert import metadata as litert_metadata
from retrain.head import Head
from retrain.metadata import METADATA_NOTE, Metadata

SUFFIX = ".tflite"
_FULL_RANGE = {np.uint8: 0, np.int8: 128}  # what is taken from a pixel where a model takes pixels as they are


def describe(path: Path) -> Metadata:
    """Return what a LiteRT model tells of itself: by retrain's note, or by the standard metadata and its tensors.

    Raises:
        GraphError: Not a LiteRT model.
    """
    try:
        notes = flatbuffer.read_metadata(path)
        if METADATA_NOTE in notes:
            return Metadata.from_json(notes[METADATA_NOTE])
        told = litert_metadata.ClassifierMetadata()
        if litert_metadata.NOTE in notes:
            told = litert_metadata.unpack(notes[litert_metadata.NOTE], path.read_bytes())
        ends = flatbuffer.io_tensors(path)
        if told.mean is None and flatbuffer.scales_pixels(path):
            told = replace(told, mean=0.0, std=1.0)
    except OSError as error:
        raise GraphError(f"cannot read the model {path}: {error.strerror}. --graph names another.") from error
    except ValueError as error:
        raise GraphError(f"{path} is not a LiteRT model ({first_line(error)}).") from error
    mean, std = told.mean, told.std
    if ends.scale and ends.dtype in _FULL_RANGE:
        mean, std = ends.zero_point + _FULL_RANGE[ends.dtype], 1 / ends.scale
    height, width = (ends.shape[1], ends.shape[2]) if len(ends.shape) == 4 else (None, None)
    return Metadata(told.labels, ends.input, ends.output, height=height, width=width, mean=mean, std=std)


def is_form_of(model: Path, graph: Path) -> bool:
    """Return whether a LiteRT model is there and was written with this very frozen graph, not with an earlier one."""
    try:
        return describe(model).graph_sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
    except (GraphError, OSError):
        return False


def stats(path: Path) -> ModelStats:
    """Return what a LiteRT model is made of."""
    return ModelStats(flatbuffer.count_operations(path), flatbuffer.count_parameters(path))


class Runner:
    """Runs one image at a time through a LiteRT model; each thread needs its own."""

    def __init__(self, model: Path, *, mean: float, std: float) -> None:
        """Load a model of one image and one vector that takes `(pixel - mean) / std`, quantised or not.

        Raises:
            ValueError: Not such a model.
            RuntimeError: It has operations that LiteRT has not.
        """
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(model), num_threads=1)
        self._interpreter.allocate_tensors()
        (taken,) = self._interpreter.get_input_details()
        (given,) = self._interpreter.get_output_details()
        if len(taken["shape"]) != 4 or taken["shape"][0] != 1 or taken["shape"][3] != 3:
            raise ValueError(f"it takes {taken['shape'].tolist()} and not one RGB image")
        self._taken, self._given = taken["index"], given["index"]
        self.size = int(given["shape"][-1])
        self._values = np.empty(taken["shape"], np.float32)
        self._mean, self._factor = np.float32(mean), np.float32(1 / std)
        self._input, self._output = _Quantised(taken), _Quantised(given)
        pixels_as_they_are = self._input.dtype is np.uint8 and self._input.takes(mean=mean, std=std)
        self._set = self._set_pixels if pixels_as_they_are else self._set_scaled

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the model's vector, float32 [D], for the pixels of one image, uint8 [H, W, 3].

        Raises:
            ValueError: The model does not take images of that size.
        """
        self._set(pixels)
        self._interpreter.invoke()
        return self._output.real(self._interpreter.get_tensor(self._given).reshape(-1))

    def _set_pixels(self, pixels: np.ndarray) -> None:
        self._interpreter.set_tensor(self._taken, pixels[None])

    def _set_scaled(self, pixels: np.ndarray) -> None:
        np.subtract(pixels, self._mean, out=self._values[0])
        self._values *= self._factor
        self._interpreter.set_tensor(self._taken, self._input.whole(self._values))


class LiteRTModel:
    """A classifier in a LiteRT file; a thread that shares it needs its own, from `for_thread`."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: It does not run here.
        """
        self.metadata, self._path = described, path
        try:
            self._run = Runner(path, mean=described.mean or 0.0, std=described.std or 1.0)
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"{path} is not an image classifier that LiteRT runs: {first_line(error)}.") from error
        self.class_count: int | None = self._run.size

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        try:
            return as_probabilities(np.stack([self._run(image) for image in pixels]))
        except ValueError as error:
            raise does_not_run(self._path, pixels.shape, error) from error

    def for_thread(self) -> "LiteRTModel":
        """Return the same classifier for another thread: an interpreter works for one at a time."""
        return LiteRTModel(self._path, self.metadata)


class _Quantised:
    """How a tensor's whole numbers stand for real ones: `(whole - zero_point) * scale`; floats stand for themselves."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.dtype = details["dtype"]
        self._scale, self._zero = details["quantization"]

    def takes(self, *, mean: float, std: float) -> bool:
        """Return whether the whole numbers are the pixels themselves, where `(pixel - mean) / std` goes in."""
        return bool(abs(mean - self._zero) < 1e-3 and abs(std * self._scale - 1) < 1e-5)

    def whole(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is np.float32:
            return values
        limits = np.iinfo(self.dtype)
        whole: np.ndarray = np.clip(np.round(values / self._scale + self._zero), limits.min, limits.max)
        return whole.astype(self.dtype)

    def real(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is np.float32:
            return values
        reals: np.ndarray = values.astype(np.float32)
        reals -= np.float32(self._zero)
        reals *= np.float32(self._scale)
        return reals


def float32(graph: Path, *, backbone: Path, head: Head, told: Metadata) -> bytes:
    """Return a model in float32: a converted backbone and the head.

    Args:
        graph: The frozen graph of the same classifier, which the model names by its SHA-256, so that it is never
            taken for another's.
        backbone: The backbone as a LiteRT model.
        head: Takes the bottlenecks.
        told: What the graph says of itself.
    """
    return _described(flatbuffer.add_head(backbone.read_bytes(), head, output=told.output or ""), graph, told)


def float16(graph: Path, *, told: Metadata) -> bytes:
    """Return a model whose weights are kept as float16, half the bytes; it computes in float32.

    Raises:
        BackboneError: The graph has an operation that LiteRT has not.
    """
    model = conversion.to_float16(graph, source=told.input or "", target=told.output or "")
    return _described(model, graph, replace(told, test_accuracy=None))  # which is the graph's


def int8(graph: Path, *, told: Metadata, pictures: Sequence[np.ndarray]) -> bytes:
    """Return a model in 8-bit arithmetic that takes pixels as they are, uint8, and gives uint8 scores.

    Args:
        graph: A frozen graph file.
        told: What it says of itself.
        pictures: uint8 [H, W, 3] each, from the training images.

    Raises:
        BackboneError: As for `float16`.
    """
    ends = {"source": told.input or "", "target": told.output or ""}
    model = conversion.to_int8(graph, told=told, pictures=pictures, **ends)
    return _described(model, graph, replace(told, test_accuracy=None))  # as above


def _described(model: bytes, graph: Path, told: Metadata) -> bytes:
    """Return a model with what it is inside: retrain's own note, and the standard metadata with the labels."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)
        ends = flatbuffer.io_tensors(file)
    own = replace(told, input=ends.input, output=ends.output, bottleneck=None)
    own = replace(own, graph_sha256=hashlib.sha256(graph.read_bytes()).hexdigest())
    if ends.scale:  # (pixel - zero_point) * scale goes in: what is quantised of it is the pixel itself
        own = replace(own, mean=float(ends.zero_point), std=1 / ends.scale)
    standard = litert_metadata.Described(
        name=f"retrain, {told.architecture}",
        output=told.output or "",
        mean=told.mean or 0.0,
        std=told.std or 1.0,
        whole_numbers=bool(ends.scale),
    )
    notes = {METADATA_NOTE: own.to_json().encode(), litert_metadata.NOTE: litert_metadata.pack(standard)}
    return litert_metadata.add_labels_file(flatbuffer.add_metadata(model, notes), told.labels)
