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
    does_not_run,
    read_model,
)
from retrain.formats.litert import conversion, flatbuffer
from retrain.formats.litert import metadata as standard
from retrain.metadata import METADATA_NOTE, Metadata
from retrain.preprocessing import InputSpec, Scaling, range_before

_ZERO_PIXEL = {np.uint8: 0, np.int8: 128}  # added to a quantised value, gives the pixel
_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # of pixels as networks take them
_RANGE_ERROR = 0.02  # by which calibration misses them, as a share


def join(classifier: TrainedClassifier, metadata: Metadata, *, sha256: str) -> bytes:
    """Return a classifier as a model of its converted backbone and the head, which is float32.

    Args:
        classifier: Has a LiteRT model of its backbone.
        metadata: Those of the frozen graph of the same classifier.
        sha256: That of the graph's file, which shows later that the model belongs to it.
    """
    backbone = classifier.litert.read_bytes() if classifier.litert else b""
    image, _ = flatbuffer.io_tensors(backbone)
    notes = _notes(metadata, sha256, image=image, scores=classifier.output, integer_scores=False)
    model = flatbuffer.add_head(backbone, classifier.head, output=classifier.output, notes=notes)
    return standard.add_labels_file(model, metadata.labels)


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
    """Write a model in 8-bit arithmetic that takes pixels as they are, uint8, and gives uint8 scores.

    Where the head was trained on the bottlenecks of an 8-bit backbone, that very backbone is written with the head
    behind it, whose few products stay float32, as do the scores: what is trained is what ships.
    """
    if source.int8 is not None:
        described = replace(source.metadata, test_accuracy=None)
        write_result(path, join(source.int8, described, sha256=source.sha256))
        return
    metadata, images = source.metadata, source.sample_images()
    model = conversion.to_int8(source.graph_def, metadata.input, target=metadata.output or "", images=images)
    write_result(path, _with_metadata(model, replace(metadata, test_accuracy=None), source.sha256))


def describe(path: Path) -> Metadata:
    """Return retrain's metadata of a LiteRT model, or else what the standard metadata and its tensors show."""
    model = read_model(path)
    try:
        notes = flatbuffer.read_metadata(model)
        if METADATA_NOTE in notes:
            return Metadata.from_json(notes[METADATA_NOTE])
        metadata = standard.ClassifierMetadata()
        if standard.NOTE in notes:
            metadata = standard.unpack(notes[standard.NOTE], model)
        image, outputs = flatbuffer.io_tensors(model)
        mean, std = _pixel_range(model, image, metadata)
        height, width = image.shape[1:3] if len(image.shape) == 4 else (None, None)
        spec = InputSpec(image.name, height, width, mean, std)
    except ValueError as error:
        raise GraphError(f"{path} is not a LiteRT model ({first_line(error)}).") from error
    tensors = list({output.index: output for output in outputs.values()}.values())
    scores = [output for output in tensors if len(output.shape) == 2] if len(tensors) > 1 else tensors
    return Metadata(metadata.labels, spec, scores[0].name if len(scores) == 1 else None)


def _pixel_range(
    model: bytes, image: flatbuffer.TensorInfo, metadata: standard.ClassifierMetadata
) -> tuple[Scaling | None, Scaling | None]:
    """Return mean and std: as the metadata say, else as a scaling layer or the range of whole numbers shows."""
    mean, std = metadata.mean, metadata.std
    if image.dtype not in _ZERO_PIXEL:
        scaling = flatbuffer.first_scaling(model) if mean is None or std is None else None
        return (scaling and range_before(*scaling)) or (mean, std)
    if (mean, std) == (0.0, 1.0):  # said of whole numbers, not of what they stand for
        mean = std = None
    if not image.scale:
        return (0.0, 1.0) if image.dtype is np.uint8 else (mean, std)
    if isinstance(mean, tuple) or isinstance(std, tuple):
        return mean, std
    zero, step = float(image.zero_point + _ZERO_PIXEL[image.dtype]), 1 / image.scale
    ranges = _RANGES if mean is None or std is None else (((0 - mean) / std, (255 - mean) / std),)
    # Pixels go in as they are where their range is that of the whole numbers. A calibration on photos leaves another
    # one, which tells nothing of the pixels.
    for low, high in ranges:
        ends = ((0 - zero) / step, low), ((255 - zero) / step, high)
        if all(abs(end - known) <= _RANGE_ERROR * (high - low) for end, known in ends):
            return zero, step
    return mean, std


def belongs_to(model: Path, graph: Path) -> bool:
    """Return whether a LiteRT model exists and was written with this frozen graph, not with an earlier one."""
    try:
        return _graph_sha256(model) == sha256_of(graph)
    except OSError:
        return False


def stats(path: Path) -> ModelStats:
    """Return the operators and parameters of a LiteRT model."""
    model = read_model(path)
    return ModelStats(flatbuffer.count_operations(model), flatbuffer.count_parameters(model))


class Runner:
    """Runs one image at a time through a LiteRT model; each thread needs its own."""

    def __init__(self, model: Path | bytes, spec: InputSpec, *, output: int | None = None) -> None:
        """Load a model from one image, as in `spec`, to one vector, quantised or not.

        Args:
            model: The file, or what is in one.
            spec: What goes in; a model of any size gets its size from here.
            output: Index of the tensor of the vector; None for the only output.

        Raises:
            ValueError: Not such a model.
            RuntimeError: It has operations that LiteRT lacks.
        """
        from ai_edge_litert.interpreter import Interpreter

        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        self._interpreter = Interpreter(**source, num_threads=1)
        image = self._opened_input(spec)
        (vector,) = [each for each in self._interpreter.get_output_details() if output in (None, each["index"])]
        self._image, self._vector = image["index"], vector["index"]
        self.shape = tuple(vector["shape"].tolist())  # of what it gives, before that becomes a vector
        self.size = self.shape[-1] if self.shape else 1
        self._values = np.empty(image["shape"], np.float32)
        self._mean, self._factor = spec.affine[0], (1 / np.asarray(spec.std or 1.0)).astype(np.float32)
        self._input, self._output = _Quantization(image), _Quantization(vector)
        unscaled = self._input.dtype is np.uint8 and self._input.keeps_pixels(spec)
        self._set = self._set_pixels if unscaled else self._set_scaled

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the model's vector, float32 [D], for the pixels of one image, uint8 [H, W, 3].

        Raises:
            ValueError: The model does not take images of that size.
        """
        self._set(pixels)
        self._interpreter.invoke()
        return self._output.dequantize(self._interpreter.get_tensor(self._vector).reshape(-1))

    def _opened_input(self, spec: InputSpec) -> dict[str, Any]:
        """Return the details of the input, after giving it its size where it takes any."""
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ValueError(f"it takes {len(inputs)} inputs and not one RGB image")
        sides, signature = inputs[0]["shape"].tolist(), inputs[0]["shape_signature"].tolist()
        if len(sides) == 4 and all(spec.size) and (-1 in signature[1:3] or sides[1:3] == [1, 1]):
            self._interpreter.resize_tensor_input(inputs[0]["index"], [1, *spec.size, sides[3]])
        self._interpreter.allocate_tensors()
        (image,) = self._interpreter.get_input_details()
        if len(image["shape"]) != 4 or image["shape"][0] != 1 or image["shape"][3] != 3:
            raise ValueError(f"it takes {image['shape'].tolist()} and not one RGB image")
        return image  # type: ignore[no-any-return]

    def _set_pixels(self, pixels: np.ndarray) -> None:
        self._interpreter.set_tensor(self._image, pixels[None])

    def _set_scaled(self, pixels: np.ndarray) -> None:
        np.subtract(pixels, self._mean, out=self._values[0])
        self._values *= self._factor
        self._interpreter.set_tensor(self._image, self._input.quantize(self._values))


class LiteRTModel(Classifier):
    """A classifier in a LiteRT file; a thread that shares it needs its own, from `for_thread`."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.metadata, self.path = metadata, path
        try:
            _, outputs = flatbuffer.io_tensors(read_model(path))
            only = next(iter(outputs.values()))
            tensor = (
                only if len({output.index for output in outputs.values()}) == 1 else outputs.get(metadata.output or "")
            )
            if tensor is None:
                raise GraphError(f"{path} gives {', '.join(outputs)}. Name one with --output_layer.")
            self._run, self.last_operation = Runner(path, metadata.input, output=tensor.index), tensor.operation
        except (ValueError, RuntimeError) as error:
            raise GraphError(f"{path} is not an image classifier that LiteRT runs: {first_line(error)}.") from error
        self.class_count = self._run.size

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""
        try:
            return np.stack([self._run(image) for image in pixels])
        except (ValueError, RuntimeError) as error:
            raise does_not_run(self.path, pixels.shape, error) from error

    def for_thread(self) -> "LiteRTModel":
        """Return the same classifier for another thread: an interpreter works for one at a time."""
        return LiteRTModel(self.path, self.metadata)


load = LiteRTModel


class _Quantization:
    """The quantisation of a tensor, `(quantized - zero_point) * scale`; float tensors have none."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.dtype = details["dtype"]
        self._scale, self._zero = details["quantization"]

    def keeps_pixels(self, spec: InputSpec) -> bool:
        """Return whether the quantised values of pixels as `spec` wants them are the pixels themselves."""
        mean, std = spec.affine
        scale = self._scale or 1.0  # whole numbers that are not quantised stand for themselves
        # Half a step away, which the middle of 0 and 255 always is, rounding would move every other pixel by one.
        return bool(np.all(np.abs(mean - self._zero) <= 0.5) and np.all(np.abs(std * scale - 1) < 1e-5))

    def quantize(self, values: np.ndarray) -> np.ndarray:
        if np.issubdtype(self.dtype, np.floating):
            return values.astype(self.dtype, copy=False)
        if not self._scale:
            raise ValueError(f"it takes {self.dtype.__name__} that is not quantised")
        limits = np.iinfo(self.dtype)
        quantized: np.ndarray = np.clip(np.round(values / self._scale + self._zero), limits.min, limits.max)
        return quantized.astype(self.dtype)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        if np.issubdtype(self.dtype, np.floating):
            return values.astype(np.float32, copy=False)
        if not self._scale:
            raise ValueError(f"it gives {self.dtype.__name__} and no scores")
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
    image, outputs = flatbuffer.io_tensors(model)
    scores = list(outputs.values())[-1]
    notes = _notes(metadata, sha256, image=image, scores=scores.name, integer_scores=bool(scores.scale))
    return standard.add_labels_file(flatbuffer.add_metadata(model, notes), metadata.labels)


def _notes(
    metadata: Metadata, sha256: str, *, image: flatbuffer.TensorInfo, scores: str, integer_scores: bool
) -> dict[str, bytes]:
    """Return retrain's metadata and the standard metadata for a model, by the names that they have in its file."""
    mean, std = metadata.input.mean, metadata.input.std
    if image.scale:  # (pixel - zero_point) * scale goes in, whose quantised value is the pixel
        mean, std = float(image.zero_point), 1 / image.scale
    note = replace(metadata.with_io(image.name, scores, mean=mean, std=std), graph_sha256=sha256)
    described = standard.ClassifierMetadata(
        name=f"retrain, {metadata.architecture}",
        output=metadata.output or "",
        mean=metadata.input.mean,
        std=metadata.input.std,
        integer=bool(image.scale),
        integer_scores=integer_scores,
        keep_aspect_ratio=metadata.input.keep_aspect_ratio,
    )
    return {METADATA_NOTE: note.to_json().encode(), standard.NOTE: standard.pack(described)}
