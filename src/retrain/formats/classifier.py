"""The values that all formats share: a loaded classifier, its statistics, and the classifier to be written."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrain.errors import GraphError, first_line
from retrain.head import Head, softmax
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

_ROUNDED = 1e-3  # how far from [0, 1] a score may be by rounding


class Classifier(Protocol):
    """A loaded model with its metadata; `class_count` is None where the file does not say it."""

    metadata: Metadata
    class_count: int | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3].

        Raises:
            GraphError: The model does not take images of that size.
        """

    def for_thread(self) -> "Classifier":
        """Return a classifier for another thread: this one, unless it serves only one thread at a time."""
        return self


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

    `sha256` is that of the graph's file; `sample_images` gives training images, uint8 [H, W, 3] each.
    """

    graph_def: Any
    metadata: Metadata
    sha256: str
    sample_images: Callable[[], Sequence[np.ndarray]]


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the scores float32 [N, C] of any classifier as values in [0, 1].

    Values in [0, 1] are left as they are: they come from a softmax, or from one sigmoid for each class. Anything else
    is logits, and goes through a softmax.
    """
    if scores.size == 0 or (scores.min() >= -_ROUNDED and scores.max() <= 1 + _ROUNDED):
        return scores
    return softmax(scores)


def does_not_run(model: Path, shape: Sequence[int], error: BaseException) -> GraphError:
    """Return the error of a model that fails on images [N, height, width, 3] of some shape."""
    _, height, width, *_ = (*shape, 0, 0, 0)
    return GraphError(f"{model} does not run on {width} x {height} px images: {first_line(error)}.")
