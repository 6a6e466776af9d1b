"""What a training measured on its way: evaluations, and all that one chunk of steps reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # values know no other leaf
    from retrain.head import Head


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: accuracies 0 to 1 and cross-entropy in nats, NaN without validation images."""

    step: int
    train_accuracy: float
    train_cross_entropy: float
    validation_accuracy: float
    validation_cross_entropy: float
    validation_count: int

    def lines(self) -> list[str]:
        """Return the evaluation in the words of the original."""
        lines = [
            f"Step {self.step}: Train accuracy = {self.train_accuracy:.1%}",
            f"Step {self.step}: Cross entropy = {self.train_cross_entropy:f}",
        ]
        if self.validation_count:
            accuracy = f"{self.validation_accuracy:.1%} (N={self.validation_count})"
            lines.append(f"Step {self.step}: Validation accuracy = {accuracy}")
        return lines


@dataclass(frozen=True)
class ChunkResult:
    """What happened in one compiled call, for reports.

    `steps` int64 [S] and the training batch's `accuracy` and `cross_entropy`, float32 [S], before each update.
    At the steps `evaluated` int64 [E], after the update: the same of the training batch (`train_*`) and of a
    validation batch (`validation_*`, NaN without validation images), float32 [E]. `head` is what the segment
    ended with, `batch` float32 [B, D] the bottlenecks of its last step.
    """

    steps: np.ndarray
    accuracy: np.ndarray
    cross_entropy: np.ndarray
    evaluated: np.ndarray
    train_accuracy: np.ndarray
    train_cross_entropy: np.ndarray
    validation_accuracy: np.ndarray
    validation_cross_entropy: np.ndarray
    head: "Head"
    batch: np.ndarray


def best_of(rows: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation with the best validation accuracy; of equal ones that with the lower cross-entropy."""
    return max(rows, key=lambda row: (row.validation_accuracy, -row.validation_cross_entropy))


def evaluations_of(segment: ChunkResult, validation_count: int) -> list[Evaluation]:
    """Return the evaluations of a chunk of steps, each on `validation_count` photos."""
    return [
        Evaluation(
            step=int(step),
            train_accuracy=float(segment.train_accuracy[i]),
            train_cross_entropy=float(segment.train_cross_entropy[i]),
            validation_accuracy=float(segment.validation_accuracy[i]),
            validation_cross_entropy=float(segment.validation_cross_entropy[i]),
            validation_count=validation_count,
        )
        for i, step in enumerate(segment.evaluated)
    ]
