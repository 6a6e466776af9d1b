"""Runs classifiers in LiteRT files, image by image on one core; TensorFlow is not imported."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import litert, tflite_metadata
from retrain.errors import GraphError, does_not_run, first_line
from retrain.metadata import METADATA_NOTE, Anatomy, Metadata, probabilities

SUFFIX = ".tflite"
_FULL_RANGE = {np.uint8: 0, np.int8: 128}  # what is taken from a pixel where a model takes pixels as they are


def describe(path: Path) -> Metadata:
    """Return what a LiteRT model tells of itself: by retrain's note, or by the standard metadata and its tensors.

    Raises:
        GraphError: Not a LiteRT model.
    """
    try:
        notes = litert.notes(path)
        if METADATA_NOTE in notes:
            return Metadata.from_json(notes[METADATA_NOTE])
        told = tflite_metadata.Told()
        if tflite_metadata.NOTE in notes:
            told = tflite_metadata.read(notes[tflite_metadata.NOTE], path.read_bytes())
        ends = litert.ends(path)
        if told.mean is None and litert.scales_pixels(path):
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


def anatomy(path: Path) -> Anatomy:
    """Return what a LiteRT model is made of."""
    return Anatomy(litert.operations(path), litert.parameters(path))


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
            return probabilities(np.stack([self._run(image) for image in pixels]))
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
