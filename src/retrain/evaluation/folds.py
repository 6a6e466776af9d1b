"""The figures of a cross-validation, and how they are said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data.layout import quoted
from retrain.evaluation import metrics
from retrain.evaluation.metrics import Interval

ENOUGH = 200  # test photos: a test of fewer is rough, and wants a cross-validation beside it
EXPLANATION = (
    "All photos, those for testing too, are divided into folds with equal shares of each class. Each fold is scored by "
    "a last layer that was trained on the other folds, in the same way and as long as that of this model. Behind +- "
    "is the standard deviation of the folds' accuracies, in points."
)


@dataclass(frozen=True)
class CrossValidation:
    """How good a recipe is on photos that its heads were not trained on, each photo scored once.

    `accuracies` are those of the folds, of `counts` photos each, with `mean` and `standard_deviation` (of a sample).
    `accuracy` is the share of all `photos` that were right, `interval` what Wilson's formula makes of it, and
    `cross_entropy` their mean, in nats. `unseen` are classes whose photos are all in one fold: no head that scored them
    had seen one. `last_layer_only` says that the network was fine-tuned, which the folds leave out.
    """

    accuracies: Sequence[float]
    counts: Sequence[int]
    mean: float
    standard_deviation: float
    accuracy: float
    interval: Interval
    cross_entropy: float
    photos: int
    unseen: Sequence[str] = ()
    last_layer_only: bool = False


def summarise(
    probabilities: np.ndarray, labels: np.ndarray, fold: np.ndarray, names: Sequence[str], *, last_layer_only: bool
) -> CrossValidation:
    """Return the figures of out-of-fold probabilities float32 [N, C] of photos with `labels` and `fold` int64 [N]."""
    right = probabilities.argmax(axis=1) == labels
    counts = np.bincount(fold)
    accuracies = np.bincount(fold, right) / counts
    pairs = np.unique(np.stack([labels, fold]), axis=1)
    folds_of_class = np.bincount(pairs[0], minlength=len(names))
    return CrossValidation(
        accuracies.tolist(),
        counts.tolist(),
        float(accuracies.mean()),
        float(accuracies.std(ddof=1)),
        metrics.accuracy(probabilities, labels),
        metrics.wilson_interval(int(right.sum()), len(labels)),
        metrics.cross_entropy(probabilities, labels),
        len(labels),
        [name for name, count in zip(names, folds_of_class, strict=True) if count == 1],
        last_layer_only,
    )


def packed(result: CrossValidation) -> bytes:
    """Return figures as bytes to keep."""
    return json.dumps({**vars(result), "interval": vars(result.interval)}).encode()


def unpacked(kept: bytes) -> CrossValidation:
    """Return figures from what `packed` made of them."""
    row = json.loads(kept)
    return CrossValidation(**{**row, "interval": Interval(**row["interval"])})


def result_line(result: CrossValidation) -> str:
    """Return the mean and the spread of the folds in a sentence."""
    alone = " of the last layer alone, without the fine-tuning" if result.last_layer_only else ""
    folds, low, high = len(result.accuracies), min(result.accuracies), max(result.accuracies)
    mean = f"{result.mean:.1%} +- {100 * result.standard_deviation:.1f}"  # in points
    return f"{folds}-fold cross-validation{alone}: {mean} (folds {low:.1%} to {high:.1%}), N={result.photos}"


def notes(result: CrossValidation) -> list[str]:
    """Return sentences on what the figures cannot say."""
    if not result.unseen:
        return []
    return [
        f"All photos in one fold of the cross-validation, so that no head that scored them had seen one: class "
        f"{quoted(result.unseen)}."
    ]
