"""Classes with too few photos, far fewer than another's, or that no head can tell apart."""

from collections.abc import Sequence

import numpy as np

from retrain.data.dataset import FEW_IMAGES
from retrain.data.layout import shortened
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural
from retrain.evaluation import metrics

_UNBALANCED = 10  # times as many photos as another class has, as in cleanlab's Datalab
_CONFUSED = 0.1  # of the photos of two classes are given the other one, before they are looked at
_SHOWN = 6  # photos of each of two classes that look like the other one
_LEAST = 10  # photos of each of two classes: of 500 classes of two, hundreds of pairs are mixed up by chance
_PARTED = 0.65  # right of 1: two classes are told apart if that is within the interval; chance is 0.5


def check(photos: Photos, probabilities: np.ndarray) -> list[Finding]:
    """Return classes that are too small, and pairs of classes that are one.

    Args:
        photos: All photos.
        probabilities: float32 [N, C], of each photo by a head that has not seen it.
    """
    counts = np.bincount(photos.labels, minlength=len(photos.dataset.class_names))
    return [*_too_few(photos, counts), *_unbalanced(photos, counts), *_inseparable(photos, probabilities)]


def _too_few(photos: Photos, counts: np.ndarray) -> list[Finding]:
    few = _ascending(np.flatnonzero(counts < FEW_IMAGES), counts)
    if not few:
        return []
    named = _counted(photos, few, counts)
    sentence = f"Too few to learn from and to test on: {named}. Take at least {FEW_IMAGES} photos of each class."
    severity = 0.5 + 0.5 * (1 - int(counts[few[0]]) / FEW_IMAGES)
    return [Finding(Kind.TOO_FEW, severity, sentence, figures=_figures(photos, few, counts))]


def _unbalanced(photos: Photos, counts: np.ndarray) -> list[Finding]:
    largest = int(counts.argmax())
    small = _ascending(np.flatnonzero((counts >= FEW_IMAGES) & (counts * _UNBALANCED <= counts[largest])), counts)
    if not small:
        return []
    times = int(counts[largest] // counts[small[0]])
    named = shortened([f"{_name(photos, each)} ({counts[each]})" for each in small])
    sentence = (
        f"{_name(photos, largest)} has {counts[largest]} photos, {times} times as many as {_name(photos, small[0])}, "
        f"so that the accuracy says little of the smaller class: take more photos of {named}."
    )
    return [Finding(Kind.BALANCE, min(1.0, times / 100), sentence, figures=_figures(photos, [*small, largest], counts))]


def _inseparable(photos: Photos, probabilities: np.ndarray) -> list[Finding]:
    """Return a finding for each pair of classes that a head tells apart hardly better than a coin would."""
    confusion = metrics.confusion_matrix(probabilities, photos.labels)
    totals, found = confusion.sum(axis=1), []
    mixed = confusion + confusion.T
    for first, second in np.argwhere(np.triu(mixed > _CONFUSED * np.add.outer(totals, totals), 1)).tolist():
        right = np.array([_right(photos, probabilities, *pair) for pair in ((first, second), (second, first))])
        # An even number of photos from both: a pair is not told apart by always naming the larger class.
        fewer = int(totals[[first, second]].min())
        share = float(right.mean())
        if fewer >= _LEAST and metrics.wilson_interval(2 * fewer * share, 2 * fewer).high <= _PARTED:
            shared = [_most_like(photos, probabilities, *pair) for pair in ((first, second), (second, first))]
            found.append(_merging(photos, (first, second), share, shared))
    return sorted(found, key=lambda finding: -finding.severity)


def _right(photos: Photos, probabilities: np.ndarray, true: int, other: int) -> float:
    """Return the share of the photos of a class whose score for it is above that for another class."""
    of_class = probabilities[photos.labels == true]
    return float(np.mean(of_class[:, true] > of_class[:, other]))


def _most_like(photos: Photos, probabilities: np.ndarray, true: int, other: int) -> list[str]:
    """Return the paths of those photos of a class that look most like another one, and more so than like their own."""
    rows = np.flatnonzero(photos.labels == true)
    excess = probabilities[rows, other] - probabilities[rows, true]
    worst = rows[np.argsort(-excess, kind="stable")][: min(_SHOWN, int((excess > 0).sum()))]
    return [photos.dataset.examples[row].path for row in worst.tolist()]


def _merging(photos: Photos, pair: tuple[int, int], share: float, shared: Sequence[Sequence[str]]) -> Finding:
    one, other = (_name(photos, class_id) for class_id in pair)
    count = int(np.isin(photos.labels, pair).sum())
    sentence = (
        f"{one} and {other} are told apart in {share:.0%} of their {count} photos, where a coin would be right in "
        f"50%: merge the two classes, or check their labels."
    )
    severity = min(1.0, 1.6 * (1 - share))
    names = [photos.dataset.class_names[class_id] for class_id in pair]
    figures = {"classes": names, "told_apart": round(share, 4), "examples": shared}
    return Finding(Kind.MERGE_CLASSES, severity, sentence, [path for paths in shared for path in paths], figures)


def _ascending(class_ids: np.ndarray, counts: np.ndarray) -> list[int]:
    ids: list[int] = class_ids[np.argsort(counts[class_ids], kind="stable")].tolist()
    return ids


def _name(photos: Photos, class_id: int) -> str:
    return repr(photos.dataset.class_names[class_id])


def _counted(photos: Photos, class_ids: Sequence[int], counts: np.ndarray) -> str:
    """Return classes with their numbers of photos: "3 photos of 'daisy', 12 photos of 'roses'"."""
    return shortened([f"{plural(int(counts[each]), 'photo')} of {_name(photos, each)}" for each in class_ids])


def _figures(photos: Photos, class_ids: Sequence[int], counts: np.ndarray) -> dict[str, dict[str, int]]:
    return {"counts": {photos.dataset.class_names[each]: int(counts[each]) for each in class_ids}}
