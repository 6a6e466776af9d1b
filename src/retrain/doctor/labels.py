"""Labels that are likely wrong, by confident learning on the scores of heads that have not seen the photo.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021. A photo is
counted as one of the class that its head is more confident of than it is, on average, of that class's own photos; those
of another class than their label are the suspects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data.marks import Action, Mark
from retrain.data.split import Split
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.graph import Graph
from retrain.doctor.photos import Photos
from retrain.errors import plural, printable

_LEAST = 10  # photos that a class must have: a head of fewer knows too little of it to contradict anybody
_BESIDE = 3  # neighbours that are named beside a suspect
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Suspects:
    """Photos whose label is likely wrong: their numbers int64 [n], the likeliest first, and their class int64 [n]."""

    numbers: np.ndarray
    classes: np.ndarray


def check(photos: Photos, scores: np.ndarray, graph: Graph) -> list[Finding]:
    """Return a finding that names the photos whose label is likely wrong, or none.

    Args:
        photos: The photos.
        scores: float32 [N, C], probabilities out of fold, from `scoring.out_of_fold`.
        graph: The nearest of each photo: those of the class that the head thinks are named beside it.
    """
    found = suspects(scores, photos.labels)
    if not len(found.numbers):
        return []
    dataset = photos.dataset
    paths = [dataset.examples[number].path for number in found.numbers.tolist()]
    names = [dataset.class_names[class_id] for class_id in found.classes.tolist()]
    rows = [
        _row(photos, scores[number], graph.neighbours[number], class_id, number)
        for number, class_id in zip(found.numbers.tolist(), found.classes.tolist(), strict=True)
    ]
    tested = sum(dataset.examples[number].split is Split.TESTING for number in found.numbers.tolist())
    return [
        Finding(
            Kind.LABEL,
            min(1.0, 0.3 + 10 * len(paths) / len(photos.labels)),
            _sentence(paths, names[0]),
            paths,
            {"suspects": rows, "test_photos": tested},
            [Mark(path, Action.RELABEL, name) for path, name in zip(paths, names, strict=True)],
        )
    ]


def suspects(scores: np.ndarray, labels: np.ndarray) -> Suspects:
    """Return the photos whose label is likely wrong, those first whose margin is the largest.

    Classes of few photos are left out: they are not suspected, and nothing is taken for one of theirs.

    Args:
        scores: float32 [N, C], probabilities out of fold.
        labels: int64 [N], class ids.
    """
    thought = confident_classes(scores, labels)
    rows = np.flatnonzero((thought >= 0) & (thought != labels))
    margins = scores[rows, thought[rows]] - scores[rows, labels[rows]]
    rows = rows[np.argsort(-margins, kind="stable")]
    return Suspects(rows, thought[rows])


def confident_classes(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class that each photo is counted as, int64 [N], -1 for none: `suspects` has the arguments."""
    counts = np.bincount(labels, minlength=scores.shape[1])
    own = np.bincount(labels, scores[np.arange(len(labels)), labels], minlength=scores.shape[1])
    thresholds = np.where(counts >= _LEAST, own / np.maximum(counts, 1), np.inf)
    confident = scores >= thresholds - _ROUNDING
    thought = np.where(confident, scores, -1).argmax(axis=1)
    return np.where(confident.any(axis=1) & (counts[labels] >= _LEAST), thought, -1)


def _row(photos: Photos, scores: np.ndarray, near: np.ndarray, class_id: int, number: int) -> dict[str, object]:
    """Return what is said of a suspect in JSON."""
    dataset, own = photos.dataset, int(photos.labels[number])
    beside = near[photos.labels[near] == class_id][:_BESIDE].tolist()
    return {
        "path": dataset.examples[number].path,
        "class": dataset.class_names[own],
        "looks_like": dataset.class_names[class_id],
        "probability": round(float(scores[class_id]), 4),
        "probability_of_class": round(float(scores[own]), 4),
        "neighbours": [dataset.examples[each].path for each in beside],
    }


def _sentence(paths: Sequence[str], name: str) -> str:
    first, name = printable(paths[0]), printable(name)
    if len(paths) == 1:
        return f"1 photo looks like another class than its own: {first} like {name}. Look at it, and relabel it if so."
    return (
        f"{plural(len(paths), 'photo')} look like another class than their own, most of all {first} like {name}. "
        f"Look at them, and relabel those that are wrong."
    )
