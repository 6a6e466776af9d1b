"""The evaluations of a training, the best of them, and the results of one chunk of steps."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # values know no other leaf
    from retrain.head import Head


# What an evaluation measures, in the order of its columns wherever it is stored.
FIGURES = ("train_accuracy", "train_cross_entropy", "validation_accuracy", "validation_cross_entropy")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: accuracies 0 to 1 and cross-entropy in nats, NaN without validation images."""

    step: int
    train_accuracy: float
    train_cross_entropy: float
    validation_accuracy: float
    validation_cross_entropy: float
    validation_count: int

    @property
    def rank(self) -> tuple[float, float]:
        """Return what a better evaluation has more of: validation accuracy, then a smaller cross-entropy."""
        return self.validation_accuracy, -self.validation_cross_entropy

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
    """The results of a chunk of steps, for reports.

    `series` are curves of the training batch before each of `steps` int64 [S], float32 [S] by their names.
    `evaluations` were made after their step. `head` is the one after the last step, and `batch` float32 [B, D] the
    bottlenecks of that step.
    """

    steps: np.ndarray
    series: dict[str, np.ndarray]
    evaluations: Sequence[Evaluation]
    head: "Head"
    batch: np.ndarray


class History:
    """The evaluations of a training so far, the best of them, and whether to stop early."""

    def __init__(self, patience: int | None = None, evaluations: Iterable[Evaluation] = ()) -> None:
        """Start with some evaluations; `patience` is how many without a better one end the training, None for none."""
        self.evaluations: list[Evaluation] = []
        self._patience, self._best = patience, 0
        for row in evaluations:
            self.add(row)

    def add(self, row: Evaluation) -> bool:
        """Add an evaluation, and return whether it is the best so far; of equal ones the first is."""
        self.evaluations.append(row)
        is_best = len(self.evaluations) == 1 or row.rank > self.best.rank
        if is_best:
            self._best = len(self.evaluations) - 1
        return is_best

    @property
    def best(self) -> Evaluation:
        """Return the best evaluation so far."""
        return self.evaluations[self._best]

    @property
    def should_stop(self) -> bool:
        """Return whether the last `patience` evaluations were no better than the best before them."""
        return self._patience is not None and len(self.evaluations) - 1 - self._best >= self._patience


def to_keep(rows: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation of a fine-tuning whose weights are worth keeping; the first is that before it.

    It is the last one whose accuracy is within a standard error of the best so far (Breiman et al., 1984,
    "Classification and Regression Trees"): of evaluations that differ by chance, early ones are those of large steps,
    and the best of many is a lucky one. None is kept that is not better than the first.
    """
    kept = best = rows[0]
    for row in rows[1:]:
        best = max(best, row, key=lambda each: each.rank)
        share = best.validation_accuracy
        error = math.sqrt(share * (1 - share) / max(1, best.validation_count))
        if row.rank > rows[0].rank and row.validation_accuracy >= share - error:
            kept = row
    return kept


def curves(rows: Sequence[Evaluation], run: str) -> dict[str, np.ndarray]:
    """Return the curves of evaluations, float64 [E] by their names; `run` is "train" or "validation"."""
    return {name: np.array([getattr(row, f"{run}_{name}") for row in rows]) for name in ("accuracy", "cross_entropy")}
