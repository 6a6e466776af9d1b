"""LiteRT classifiers: writes them, and runs them image by image on one core, without TensorFlow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, GraphError, first_line
from retrain.files import sha256_of, write_result
from retrain.formats.classifier import (
    Classifier,
    ExportSource,
    ModelStats,
    TrainedClassifier,
    as_probabilities,
    does_not_run,
)
from retrain.formats.litert import conversion, flatbuffer
from retrain.formats.litert import metadata as standard
from retrain.metadata import METADATA_NOTE, Metadata
from retrain.preprocessing import InputSpec

_ZERO_PIXEL = {np.uint8: 0, np.int8: 128}  # added to a quantised value, gives the pixel


def join(classifier: TrainedClassifier, metadata: Metadata, *, sha256: str) -> bytes:
    """Return a classifier as a float32 model: its converted backbone and the head.

    Args:
        classifier: Has a LiteRT model of its backbone.
        metadata: Those of the frozen graph of the same classifier.
        sha256: That of the graph's file, which shows later that the model belongs to it.
    """
    backbone = classifier.litert.read_bytes() if classifier.litert else b""
    return _with_metadata(flatbuffer.add_head(backbone, classifier.head, output=classifier.output), metadata, sha256)


def check_written(source: ExportSource, path: Path) -> None:
    """Check that the float32 model exists, which is written with every graph that LiteRT can run."""
    if _graph_sha256(path) != source.sha256:
        raise ExportError("LiteRT cannot run this network. Leave tflite out of --export.")


def write_float16(source: ExportSource, path: Path) -> None:
    """Write a model whose weights are kept as float16, half the bytes; it computes in float32."""
    metadata = source.metadata
    model = conversion.to_float16(source.graph_def, metadata.input, target=metadata.output or "")
    write_result(path, _with_metadata(model, replace(metadata, test_accuracy=None), source.sha256))


def write_int8(source: ExportSource, path: Path) -> None:
    """Write a model in 8-bit arithmetic that takes pixels as they are, uint8, and gives uint8 scores."""
    metadata, images = source.metadata, source.sample_images()
    model = conversion.to_int8(source.graph_def, metadata.input, target=metadata.output or "", images=images)
    write_result(path, _with_metadata(model, replace(metadata, test_accuracy=None), source.sha256))


def describe(path: Path) -> Metadata:
    """Return retrain's metadata of a LiteRT model, or else what the standard metadata and its tensors show."""
    try:
        model = path.read_bytes()
        notes = flatbuffer.read_metadata(model)
        if METADATA_NOTE in notes:
            return Metadata.from_json(notes[METADATA_NOTE])
        metadata = standard.ClassifierMetadata()
        if standard.NOTE in notes:
            metadata = standard.unpack(notes[standard.NOTE], model)
        image, scores = flatbuffer.io_tensors(model)
        mean, std = metadata.mean, metadata.std
        if mean is None and flatbuffer.scales_pixels(model):
            mean, std = 0.0, 1.0
    except OSError as error:
        raise GraphError(f"cannot read the model {path}: {error.strerror}. --graph names another.") from error
    except ValueError as error:
        raise GraphError(f"{path} is not a LiteRT model ({first_line(error)}).") from error
    if image.scale and image.dtype in _ZERO_PIXEL:
        mean, std = image.zero_point + _ZERO_PIXEL[image.dtype], 1 / image.scale
    height, width = image.shape[1:3] if len(image.shape) == 4 else (None, None)
    return Metadata(metadata.labels, InputSpec(image.name, height, width, mean, std), scores.name)


def belongs_to(model: Path, graph: Path) -> bool:
    """Return whether a LiteRT model exists and was written with this frozen graph, not with an earlier one."""
    try:
        return _graph_sha256(model) == sha256_of(graph)
    except OSError:
        return False


def stats(path: Path) -> ModelStats:
    """Return the operators and parameters of a LiteRT model."""
    model = path.read_bytes()
    return ModelStats(flatbuffer.count_operations(model), flatbuffer.count_parameters(model))


class Runner:
    """Runs one image at a time through a LiteRT model; each thread needs its own."""

    def __init__(self, model: Path, spec: InputSpec) -> None:
        """Load a model from one image, as in `spec`, to one vector, quantised or not.

        Raises:
            ValueError: Not such a model.
            RuntimeError: It has operations that LiteRT lacks.
        """
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(model), num_threads=1)
        self._interpreter.allocate_tensors()
        (image,) = self._interpreter.get_input_details()
        (vector,) = self._interpreter.get_output_details()
        if len(image["shape"]) != 4 or image["shape"][0] != 1 or image["shape"][3] != 3:
            raise ValueError(f"it takes {image['shape'].tolist()} and not one RGB image")
        self._image, self._vector = image["index"], vector["index"]
        self.size = int(vector["shape"][-1])
        self._values = np.empty(image["shape"], np.float32)
        mean, std = spec.mean or 0.0, spec.std or 1.0
        self._mean, self._factor = np.float32(mean), np.float32(1 / std)
        self._input, self._output = _Quantization(image), _Quantization(vector)
        unscaled = self._input.dtype is np.uint8 and self._input.keeps_pixels(mean=mean, std=std)
        self._set = self._set_pixels if unscaled else self._set_scaled

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the model's vector, float32 [D], for the pixels of one image, uint8 [H, W, 3].

        Raises:
            ValueError: The model does not take images of that size.
        """
        self._set(pixels)
        self._interpreter.invoke()
        return self._output.dequantize(self._interpreter.get_tensor(self._vector).reshape(-1))

    def _set_pixels(self, pixels: np.ndarray) -> None:
        self._interpreter.set_tensor(self._image, pixels[None])

    def _set_scaled(self, pixels: np.ndarray) -> None:
        np.subtract(pixels, self._mean, out=self._values[0])
        self._values *= self._factor
        self._interpreter.set_tensor(self._image, self._input.quantize(self._values))


class LiteRTModel(Classifier):
    """A classifier in a LiteRT file; a thread that shares it needs its own, from `for_thread`."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.metadata, self._path = metadata, path
        try:
            self._run = Runner(path, metadata.input)
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"{path} is not an image classifier that LiteRT runs: {first_line(error)}.") from error
        self.class_count = self._run.size

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        try:
            return as_probabilities(np.stack([self._run(image) for image in pixels]))
        except ValueError as error:
            raise does_not_run(self._path, pixels.shape, error) from error

    def for_thread(self) -> "LiteRTModel":
        """Return the same classifier for another thread: an interpreter works for one at a time."""
        return LiteRTModel(self._path, self.metadata)


load = LiteRTModel


class _Quantization:
    """The quantisation of a tensor, `(quantized - zero_point) * scale`; float tensors have none."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.dtype = details["dtype"]
        self._scale, self._zero = details["quantization"]

    def keeps_pixels(self, *, mean: float, std: float) -> bool:
        """Return whether the quantised values of `(pixel - mean) / std` are the pixels themselves."""
        return bool(abs(mean - self._zero) < 1e-3 and abs(std * self._scale - 1) < 1e-5)

    def quantize(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is np.float32:
            return values
        limits = np.iinfo(self.dtype)
        quantized: np.ndarray = np.clip(np.round(values / self._scale + self._zero), limits.min, limits.max)
        return quantized.astype(self.dtype)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is np.float32:
            return values
        floats: np.ndarray = values.astype(np.float32)
        floats -= np.float32(self._zero)
        floats *= np.float32(self._scale)
        return floats


def _graph_sha256(model: Path) -> str | None:
    """Return the SHA-256 of the frozen graph that a LiteRT model was written with; None for any other file."""
    try:
        return describe(model).graph_sha256
    except GraphError:
        return None


def _with_metadata(model: bytes, metadata: Metadata, sha256: str) -> bytes:
    """Return a model with retrain's metadata inside, and the standard metadata with the labels."""
    image, scores = flatbuffer.io_tensors(model)
    mean, std = metadata.input.mean, metadata.input.std
    if image.scale:  # (pixel - zero_point) * scale goes in, whose quantised value is the pixel
        mean, std = float(image.zero_point), 1 / image.scale
    note = replace(metadata.with_io(image.name, scores.name, mean=mean, std=std), graph_sha256=sha256)
    described = standard.ClassifierMetadata(
        name=f"retrain, {metadata.architecture}",
        output=metadata.output or "",
        mean=metadata.input.mean,
        std=metadata.input.std,
        integer=bool(image.scale),
    )
    notes = {METADATA_NOTE: note.to_json().encode(), standard.NOTE: standard.pack(described)}
    return standard.add_labels_file(flatbuffer.add_metadata(model, notes), metadata.labels)
