"""Labels that are likely wrong, named with the class that heads which have not seen the photo take it for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data.marks import Action, Mark
from retrain.data.split import Split
from retrain.doctor import scoring, wrong_labels
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural, printable
from retrain.evaluation import neighbours

_CORRECTED, _NAMED = 0.2, 0.1  # how likely a label must be wrong to be trained on otherwise, and then to be named
_PROPOSED = 0.5  # and to be proposed as another: marks are carried out without a further look
_SEARCHED = 2000  # photos of a class among which neighbours of suspects are looked for, evenly spread
_LEAST = 10  # photos that a class must have: a head of fewer knows too little of it to contradict anybody


@dataclass(frozen=True)
class Suspects:
    """Photos whose label is likely wrong: their numbers int64 [n], the likeliest first.

    `classes` int64 [n] are what they are taken for; `doubt` float64 [n] is how likely the label is wrong.
    """

    numbers: np.ndarray
    classes: np.ndarray
    doubt: np.ndarray


def check(photos: Photos, scores: np.ndarray) -> list[Finding]:
    """Return a finding that names the photos whose label is likely wrong, or none.

    Where labels are likely wrong, heads that learn the suspects' other class instead see the others better: it is their
    scores that decide.

    Args:
        photos: The photos.
        scores: float32 [N, C], probabilities out of fold, from `scoring.out_of_fold`.

    Raises:
        TrainingError: A training diverged.
    """
    found = suspects(scores, photos.labels, doubt=_CORRECTED)
    if len(found.numbers):
        corrected = photos.labels.copy()
        corrected[found.numbers] = found.classes
        scores = scoring.out_of_fold(photos, corrected)
        found = _without_copies(photos, suspects(scores, photos.labels, doubt=_NAMED))
    return [_finding(photos, found, scores)] if len(found.numbers) else []


def suspects(scores: np.ndarray, labels: np.ndarray, *, doubt: float = _NAMED) -> Suspects:
    """Return the photos whose label is likely wrong, the likeliest first.

    Classes of few photos are left out: they are not suspected, and nothing is taken for one of theirs.

    Args:
        scores: float32 [N, C], probabilities out of fold.
        labels: int64 [N], class ids.
        doubt: How likely the label of a suspect must be wrong.
    """
    judged = np.bincount(labels, minlength=scores.shape[1]) >= _LEAST
    rows = np.flatnonzero(judged[labels])
    if judged.sum() < 2:
        return Suspects(rows[:0], rows[:0], np.zeros(0))
    wrong = wrong_labels.wrongness(scores[rows], labels[rows])
    others = scores[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -1
    thought = others.argmax(axis=1)
    chosen = np.flatnonzero((wrong > doubt) & judged[thought])
    chosen = chosen[np.argsort(-wrong[chosen], kind="stable")]
    return Suspects(rows[chosen], thought[chosen], wrong[chosen])


def _without_copies(photos: Photos, found: Suspects) -> Suspects:
    """Return the suspects but those which the class they are taken for has, too: a copy says nothing of its label."""
    known = {(key, label) for key, label in zip(photos.keys, photos.labels.tolist(), strict=True) if key is not None}
    pairs = zip(found.numbers.tolist(), found.classes.tolist(), strict=True)
    alone = np.array([(photos.keys[number], class_id) not in known for number, class_id in pairs], bool)
    return Suspects(found.numbers[alone], found.classes[alone], found.doubt[alone])


def _finding(photos: Photos, found: Suspects, scores: np.ndarray) -> Finding:
    """Return the finding about one suspect or more."""
    examples, class_names = photos.dataset.examples, photos.dataset.class_names
    numbers = found.numbers.tolist()
    paths, names = [examples[number].path for number in numbers], [class_names[each] for each in found.classes.tolist()]
    rows = [
        {
            "path": path,
            "class": class_names[int(photos.labels[number])],
            "looks_like": name,
            "doubt": round(doubt, 4),
            "probability": round(float(scores[number, class_id]), 4),
            "neighbours": [examples[each].path for each in beside],
        }
        for path, number, name, class_id, doubt, beside in zip(
            paths, numbers, names, found.classes.tolist(), found.doubt.tolist(), _neighbours(photos, found), strict=True
        )
    ]
    tested = sum(examples[number].split is Split.TESTING for number in numbers)
    return Finding(
        Kind.LABEL,
        min(1.0, 0.3 + 10 * len(paths) / len(photos.labels)),
        _sentence(paths, names[0]),
        paths,
        {"suspects": rows, "test_photos": tested},
        [
            Mark(path, Action.RELABEL, name)
            for path, name, doubt in zip(paths, names, found.doubt.tolist(), strict=True)
            if doubt > _PROPOSED
        ],
    )


def _neighbours(photos: Photos, found: Suspects) -> Sequence[Sequence[int]]:
    """Return the numbers of the photos nearest to each suspect in the class that it is taken for, of many a sample."""
    beside: list[list[int]] = [[] for _ in found.numbers]
    for class_id in np.unique(found.classes).tolist():
        members, places = np.flatnonzero(photos.labels == class_id), np.flatnonzero(found.classes == class_id)
        members = members[:: -(-len(members) // _SEARCHED)]
        near = neighbours.nearest(photos.gather, members, photos.gather(found.numbers[places]))
        for place, row in zip(places.tolist(), members[near.places].tolist(), strict=True):
            beside[place] = row
    return beside


def _sentence(paths: Sequence[str], name: str) -> str:
    first, name = printable(paths[0]), printable(name)
    if len(paths) == 1:
        return (
            f"1 photo looks like another class than its own: {first} like {name}. Look at it, and relabel it if it is "
            f"wrong."
        )
    return (
        f"{plural(len(paths), 'photo')} look like another class than their own, most of all {first} like {name}. "
        f"Look at them, and relabel those that are wrong."
    )
