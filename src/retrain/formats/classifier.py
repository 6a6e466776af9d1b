"""The values that all formats share: a loaded classifier, its statistics, and the classifier to be written."""

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import GraphError, RetrainError, first_line, plural
from retrain.files import MODEL_BYTES, check_file, read_regular
from retrain.head import Head, softmax
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

_ROUNDED = 1e-3  # how far from [0, 1] a score may be by rounding
_GIVE_PROBABILITIES = ("softmax", "sigmoid", "logistic")
_GIVE_LOGITS = ("matmul", "biasadd", "conv2d", "conv_2d", "fully_connected", "dense")


class Classifier(ABC):
    """A loaded model with its metadata, in the file `path`.

    `class_count` is the number of scores, None where the file does not say it; `last_operation` is what gives them,
    in lower case, where it is known. One score, of the second of two classes, is read as both.
    """

    metadata: Metadata
    path: Path
    class_count: int | None
    last_operation: str | None = None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3].

        Raises:
            GraphError: The model does not take images of that size, or gives no score for each label.
        """
        return as_probabilities(self._rows(pixels), logits=self.gives_logits, binary=self._is_binary)

    @abstractmethod
    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""

    @functools.cached_property
    def gives_logits(self) -> bool:
        """Return whether the scores of this model are logits: by its last operation, else by its first answers."""
        if self._is_binary and self.last_operation == "softmax":
            raise GraphError(f"{self.path} gives one score, always 1 behind a softmax. Use another model.")
        if self.metadata.retrain_version or self.last_operation in _GIVE_PROBABILITIES:
            return False
        if self.last_operation in _GIVE_LOGITS:
            return True
        first = np.concatenate([self._rows(image[None]) for image in first_images(*self.metadata.input.size)])
        return bool((first < -_ROUNDED).any() or (first > 1 + _ROUNDED).any())

    @property
    def _is_binary(self) -> bool:
        return self.class_count == 1 and len(self.metadata.labels) == 2

    def _rows(self, pixels: np.ndarray) -> np.ndarray:
        """Return the scores as float32 [N, C], checked against the labels."""
        try:
            scores = np.asarray(self.scores(pixels))
        except RetrainError:
            raise
        except Exception as error:  # the runtimes raise anything on damaged models
            raise does_not_run(self.path, pixels.shape, error) from error
        count, labels = len(pixels), self.metadata.labels
        if scores.dtype.kind in "biuSUO":
            raise GraphError(
                f"{self.path} gives {scores.dtype} and no scores at {self.metadata.output}. Name another output with "
                f"--output_layer."
            )
        per_image = scores.size // max(1, count)
        if scores.size != per_image * count or (scores.ndim > 1 and len(scores) != count):
            raise GraphError(f"{self.path} gives scores {list(scores.shape)} for {count} images, not [{count}, C].")
        if labels and per_image != len(labels) and not self._is_binary:
            raise wrong_label_count(self.path, per_image, labels)
        return scores.reshape(count, per_image).astype(np.float32, copy=False)

    def for_thread(self) -> "Classifier":
        """Return a classifier for another thread: this one, unless it serves only one thread at a time."""
        return self


def read_model(path: Path) -> bytes:
    """Return the content of a model's file.

    Raises:
        GraphError: It cannot be read, is no regular file, or is too large.
    """
    try:
        return read_regular(path, MODEL_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def check_model(path: Path) -> None:
    """Refuse a model's file before a runtime opens it by its name; GraphError as from `read_model`."""
    try:
        check_file(path, MODEL_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> GraphError:
    return GraphError(f"cannot read the model {path}: {error.strerror}. --graph names another.")


@dataclass(frozen=True)
class ModelStats:
    """How many operations or layers of each kind a model has, and how many parameters."""

    operations: Counter[str]
    parameters: int


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained head and the frozen backbone below it, which a format joins into one file.

    `graph` is the backbone's frozen graph, from `input` to the bottleneck node `target`; `litert` is the same as a
    LiteRT model, None where there is none. `output` names the softmax, `scope` the first part of the head's nodes.
    """

    graph: Path
    litert: Path | None
    input: InputSpec
    target: str
    head: Head
    output: str
    scope: str


@dataclass(frozen=True)
class ExportSource:
    """A classifier as it was written: its frozen graph, parsed once for all other formats.

    `sha256` is that of the graph's file; `sample_images` gives training images, uint8 [H, W, 3] each. `int8` is the
    same classifier on an 8-bit form of its backbone, where the head was trained on what that gives.
    """

    graph_def: Any
    metadata: Metadata
    sha256: str
    sample_images: Callable[[], Sequence[np.ndarray]]
    int8: TrainedClassifier | None = None


def as_probabilities(scores: np.ndarray, *, logits: bool, binary: bool = False) -> np.ndarray:
    """Return the scores float32 [N, C] of a classifier as values in [0, 1].

    Logits go through a softmax. Anything else comes from a softmax, or from one sigmoid for each class, and is left as
    it is. `binary` stands for one score, of the second of two classes: [N, 1] becomes [N, 2].
    """
    if binary:
        scores = np.hstack([np.zeros_like(scores), scores] if logits else [1 - scores, scores])
    return softmax(scores) if logits and len(scores) else scores


def wrong_label_count(path: Path, count: int, labels: Sequence[str]) -> GraphError:
    """Return the error of a model with another number of scores than labels."""
    return GraphError(
        f"{path} has {count} {'class' if count == 1 else 'classes'}, but there are {plural(len(labels), 'label')}. "
        f"Name the right file with --labels."
    )


def check_image_shape(path: Path, shape: Sequence[Any], *, channels_first: bool = False) -> None:
    """Refuse a model that takes anything but RGB images, of the shape [N, height, width, 3]; None is any number.

    Raises:
        GraphError: Says what it takes.
    """
    channels = shape[1 if channels_first else 3] if len(shape) == 4 else 0
    if isinstance(channels, int) and channels != 3:
        what = f"images of {plural(channels, 'channel')}" if channels > 0 else "no images"
        text = ", ".join("any" if side is None else str(side) for side in shape)
        raise GraphError(f"{path} takes {what}, [{text}]. Only models of RGB images, [N, height, width, 3], are run.")


def first_images(height: int, width: int) -> np.ndarray:
    """Return the images, uint8 [8, height, width, 3], whose scores tell of what kind the scores of a model are."""
    colours = [[0] * 3, [255] * 3, [128] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    plain = np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (len(colours), height, width, 3))
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    return np.concatenate([plain, noise])


def does_not_run(model: Path, shape: Sequence[int], error: BaseException) -> GraphError:
    """Return the error of a model that fails on images [N, height, width, 3] of some shape."""
    _, height, width, *_ = (*shape, 0, 0, 0)
    return GraphError(f"{model} does not run on {width} x {height} px images: {first_line(error)}.")
