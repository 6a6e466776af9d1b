"""Pure numpy on probabilities and labels: accuracy, cross-entropy, confusion, per-class figures, intervals.

`probabilities` are float32 [N, C], rows that sum to 1; `labels` int64 [N] are class ids in [0, C).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

_SMALLEST = np.finfo(np.float32).tiny  # keeps the logarithm of a probability that rounded to 0 finite


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a share, both ends in [0, 1]."""

    low: float
    high: float

    def __str__(self) -> str:
        """Return the interval in words: "43.9% to 100.0%"."""
        return f"{self.low:.1%} to {self.high:.1%}"


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class in [0, 1], NaN where nothing defines them; `count` true images.

    `interval` is Wilson's of the recall, `precision_interval` that of the precision, 0 to 1 where nothing is known.
    """

    precision: float
    recall: float
    f1: float
    count: int
    interval: Interval = Interval(0.0, 1.0)
    precision_interval: Interval = Interval(0.0, 1.0)


@dataclass(frozen=True)
class Figures:
    """The metrics of a classifier: accuracy in [0, 1] with its interval, cross-entropy in nats, figures of each class.

    `confusion` int64 [C, C] counts images of class (row) that were given class (column).
    """

    accuracy: float
    interval: Interval
    cross_entropy: float
    classes: list[ClassFigures]
    confusion: np.ndarray


def figures(probabilities: np.ndarray, labels: np.ndarray) -> Figures:
    """Return all metrics of a classifier."""
    confusion = confusion_matrix(probabilities, labels)
    return Figures(
        accuracy(probabilities, labels),
        wilson_interval(int(confusion.trace()), len(labels)),
        cross_entropy(probabilities, labels),
        class_figures(confusion),
        confusion,
    )


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of rows whose largest probability is that of their label, in [0, 1]."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy in nats."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, _SMALLEST)).mean())


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return int64 [C, C]: how many images of class (row) were given class (column)."""
    count = probabilities.shape[1]
    pairs = labels * count + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def confusions(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the pairs of classes (true, predicted) that are confused, each with how often, the most often first.

    Equal ones are in the order of a confusion matrix int64 [C, C] (rows: true, columns: predicted).
    """
    others = np.where(np.eye(len(confusion), dtype=bool), 0, confusion)
    true, predicted = np.nonzero(others)
    counts = others[true, predicted]
    order = np.argsort(-counts, kind="stable")
    return list(zip(*(column[order].tolist() for column in (true, predicted, counts)), strict=True))


def class_figures(confusion: np.ndarray) -> list[ClassFigures]:
    """Return the figures of each class of a confusion matrix int64 [C, C] (rows: true, columns: predicted)."""
    figures = []
    for class_id in range(len(confusion)):
        hits = float(confusion[class_id, class_id])
        true, predicted = int(confusion[class_id].sum()), int(confusion[:, class_id].sum())
        f1 = _share(2 * hits, true + predicted)
        recalled, precise = wilson_interval(hits, true), wilson_interval(hits, predicted)
        figures.append(ClassFigures(_share(hits, predicted), _share(hits, true), f1, true, recalled, precise))
    return figures


def with_intervals_of(figures: Sequence[ClassFigures], photos: np.ndarray) -> list[ClassFigures]:
    """Return figures with the intervals of a confusion matrix int64 [C, C] that counts each photo once.

    A photo that was sampled several times is no more evidence than one.
    """
    return [
        replace(row, interval=once.interval, precision_interval=once.precision_interval)
        for row, once in zip(figures, class_figures(photos), strict=True)
    ]


def wilson_interval(hits: float, total: int, z: float = 1.959964) -> Interval:
    """Return the Wilson score interval of `hits` out of `total`, by default at 95 %.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927. Unlike the
    normal approximation it stays inside [0, 1] and is honest for the small test sets of a hobby project.
    """
    if total == 0:
        return Interval(0.0, 1.0)
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return Interval(max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class Misclassified:
    """A test image that was given a wrong class: its path below the image folder, both classes, the score."""

    path: str
    true: str
    predicted: str
    score: float


def misclassified(
    paths: Sequence[str], names: Sequence[str], probabilities: np.ndarray, labels: np.ndarray
) -> list[Misclassified]:
    """Return the images of a wrong class, in their order; `paths` of N images, `names` of C classes."""
    predicted = probabilities.argmax(axis=1)
    return [
        Misclassified(paths[i], names[labels[i]], names[predicted[i]], float(probabilities[i, predicted[i]]))
        for i in np.flatnonzero(predicted != labels).tolist()
    ]


BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The photos whose largest score lies in (`low`, `high`]: how many, their mean score, the share that was right.

    `score` and `accuracy` are NaN without photos.
    """

    low: float
    high: float
    count: int
    score: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Whether a model is as sure as it is right: ten bins of its largest scores, and the mean of all N scores.

    `error` in [0, 1] is the expected calibration error: the difference of score and accuracy, averaged over the bins
    by their photos. Guo et al., "On calibration of modern neural networks", ICML 2017. NaN without photos.
    """

    bins: Sequence[ReliabilityBin]
    score: float
    accuracy: float
    error: float
    count: int


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Return the calibration of a classifier, by the score of the class that it gives each image."""
    scores, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = places == number
        count = int(inside.sum())
        score, accuracy = _share(float(scores[inside].sum()), count), _share(float(right[inside].sum()), count)
        bins.append(ReliabilityBin(number / BINS, (number + 1) / BINS, count, score, accuracy))
        error += count * abs(score - accuracy) if count else 0.0
    total = len(labels)
    return Calibration(
        bins,
        _share(float(scores.sum()), total),
        _share(float(right.sum()), total),
        _share(error, total),
        total,
    )
