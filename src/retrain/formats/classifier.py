"""What every loaded model offers, whatever its format."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from retrain.errors import GraphError, first_line
from retrain.metadata import Metadata

_ROUNDED = 1e-3  # how far from [0, 1] a score may be by rounding


@dataclass(frozen=True)
class ModelStats:
    """What a model is made of: how many operations or layers of each kind, and how many numbers it has learnt."""

    operations: Counter[str]
    parameters: int


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the scores float32 [N, C] of any classifier as values in [0, 1].

    What lies in [0, 1] is left as it is: it comes from a softmax, or from one sigmoid for each class. Anything else
    is unnormalised, as a classifier gives it that was trained on logits, and goes through a softmax.
    """
    if scores.size == 0 or (scores.min() >= -_ROUNDED and scores.max() <= 1 + _ROUNDED):
        return scores
    powers: np.ndarray = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


class Classifier(Protocol):
    """What every loaded model offers; a call gives probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""

    metadata: Metadata
    class_count: int | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3].

        Raises:
            GraphError: The model does not take images of that size.
        """

    def for_thread(self) -> "Classifier":
        """Return the same classifier for use in another thread at the same time."""


def does_not_run(model: Path, shape: Sequence[int], error: BaseException) -> GraphError:
    """Return the error of a model that fails on images [N, height, width, 3] of some shape."""
    _, height, width, *_ = (*shape, 0, 0, 0)
    return GraphError(f"{model} does not run on {width} x {height} px images: {first_line(error)}.")
