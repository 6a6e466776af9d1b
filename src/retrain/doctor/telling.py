"""How well values other than pixels tell a class from the others: cross-validated, balanced, and against chance.

The values are cut into few bins, and a ridge regression from the bins to the classes is fitted. Each class's share of
the photos is divided out, so that a class is told when it is likelier than usual. Balanced accuracy, the mean of the
shares that are right among the photos of a class and among all others, is 0.5 for whatever says nothing, however
unequal the classes are. How much chance gives is found by permuting the labels (Ojala and Garriga, "Permutation tests
for studying classifier performance", JMLR 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 199
_FOLDS = 5
_BINS = 8
_RIDGE = 1.0
_FEWEST = 10  # photos of a class that is told from the others, and of these
_COMMON = 5  # photos that share a value which counts by itself
_MOST = 4000  # photos: more make no accuracy more certain than it has to be


@dataclass(frozen=True)
class Telling:
    """The class that is told best from the others, with which balanced accuracy, and how often chance does as well."""

    class_id: int
    accuracy: float
    p: float


def tell(values: Sequence[np.ndarray], labels: np.ndarray, *, least: float, seed: int) -> Telling | None:
    """Return how well values tell a class from the others, None where the accuracy is below `least`.

    Args:
        values: Columns [N] of numbers, which are cut at their quantiles, or of texts, which are compared.
        labels: int64 [N], class ids.
        least: The balanced accuracy below which chance is not asked.
        seed: Of folds and permutations.
    """
    random = np.random.default_rng(seed)
    chosen = _stratified(labels, random)
    told = labels[chosen]
    counts = np.bincount(told)
    if np.count_nonzero(counts) < 2 or counts.max() < _FEWEST:
        return None
    design = np.concatenate([_one_hot(column[chosen]) for column in values], axis=1)
    folds = _Folds(design, np.arange(len(told)) % _FOLDS)
    accuracies = folds.accuracies(told, len(counts))
    best = int(accuracies.argmax())
    if accuracies[best] < least:
        return None
    chance = [folds.accuracies(random.permutation(told), len(counts)).max() for _ in range(PERMUTATIONS)]
    as_good = int(np.count_nonzero(np.array(chance) >= accuracies[best]))
    return Telling(best, float(accuracies[best]), (1 + as_good) / (1 + PERMUTATIONS))


def _stratified(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the numbers of photos int64 [n], shuffled within their classes, which follow each other."""
    classes = np.unique(labels)
    each = max(2 * _FEWEST, _MOST // max(1, len(classes)))
    parts = [random.permutation(np.flatnonzero(labels == class_id))[:each] for class_id in classes.tolist()]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _one_hot(column: np.ndarray) -> np.ndarray:
    """Return which bin each value of a column [n] is in, float64 [n, bins]."""
    if column.dtype.kind == "f":
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))
        codes = np.searchsorted(edges, column, side="right")
    else:
        _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
        is_common = counts >= _COMMON
        codes = np.where(is_common, np.cumsum(is_common), 0)[places]  # 0 for rare values, together
    found: np.ndarray = np.eye(int(codes.max()) + 1)[codes]
    return found


class _Folds:
    """Ridge regressions on all folds but one, whose photos they are asked about; solved once for all labels."""

    def __init__(self, design: np.ndarray, fold: np.ndarray) -> None:
        self._parts = []
        for number in range(_FOLDS):
            rest, held = design[fold != number], design[fold == number]
            mean = rest.mean(axis=0)
            centred = rest - mean
            solved = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(design.shape[1]), centred.T)
            self._parts.append((fold != number, fold == number, solved, held - mean))

    def accuracies(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Return the balanced accuracy of each class against all others, float64 [classes], 0 of small sides."""
        targets = np.eye(classes)[labels]
        told = np.zeros_like(targets, bool)
        for rest, held, solved, design in self._parts:
            share = targets[rest].mean(axis=0)
            told[held] = design @ (solved @ (targets[rest] - share)) > 0
        is_class = targets.astype(bool)
        counts = is_class.sum(axis=0)
        right, wrong = (told & is_class).sum(axis=0), (told & ~is_class).sum(axis=0)
        others = len(labels) - counts
        balanced: np.ndarray = (right / np.maximum(1, counts) + 1 - wrong / np.maximum(1, others)) / 2
        return np.where(np.minimum(counts, others) >= _FEWEST, balanced, 0.0)
