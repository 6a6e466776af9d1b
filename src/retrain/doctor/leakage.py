"""Photos that a model is measured on although it was trained on copies of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from retrain.data.split import Split, is_ready_made
from retrain.doctor.copies import Copies
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural

_ENOUGH = 30  # photos for an accuracy
_COPIES_AT_MOST = 3  # training photos that are named beside each
_WORST = {Split.TESTING: 1.0, Split.VALIDATION: 0.9}  # severities: the accuracy that people quote is the test accuracy
_NOUNS = {Split.TESTING: "test photo", Split.VALIDATION: "validation photo"}


def check(photos: Photos, copies: Copies, predict: Callable[[], np.ndarray] | None = None) -> list[Finding]:
    """Return a finding for each part that is measured on, if photos in it have copies among the training photos.

    Args:
        photos: All photos.
        copies: Which of them show the same.
        predict: Returns int64 [N], the class that a model gives each test photo, -1 for photos that it was not asked
            about; it is called where test photos have leaked. Then the test accuracy without these is said, if enough
            photos are left for one.
    """
    trained = np.zeros(len(photos.labels), bool)  # contents that a training photo has, or shows
    trained[copies.content[photos.splits == Split.TRAINING]] = True
    one, other = copies.pairs.T
    shown = trained.copy()
    shown[one[trained[other]]] = True
    shown[other[trained[one]]] = True
    found = []
    for split in (Split.TESTING, Split.VALIDATION):
        held_out = np.flatnonzero(photos.splits == split)
        leaked = held_out[shown[copies.content[held_out]]]
        if len(leaked):
            accuracies = _accuracies(photos, leaked, predict()) if predict and split is Split.TESTING else {}
            found.append(_finding(photos, copies, split, leaked, accuracies))
    return found


def _accuracies(photos: Photos, leaked: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the test accuracy with leaked photos and without, nothing where too few are left for one."""
    asked = np.flatnonzero((photos.splits == Split.TESTING) & (predicted >= 0))
    rest = np.setdiff1d(asked, leaked)
    if len(rest) < _ENOUGH:
        return {}
    right = predicted == photos.labels
    return {"accuracy": float(right[asked].mean()), "accuracy_without": float(right[rest].mean())}


def _finding(
    photos: Photos, copies: Copies, split: Split, leaked: np.ndarray, accuracies: Mapping[str, float]
) -> Finding:
    count = int(np.count_nonzero(photos.splits == split))
    groups = _beside_copies(photos, copies, leaked)
    figures = {"split": split.value, "leaked": len(leaked), "photos": count, **accuracies, "groups": groups}
    verb = "is a copy of a training photo" if len(leaked) == 1 else "are copies of training photos"
    remedy = (
        "Remove one of each" if is_ready_made(photos.dataset) else "Keep copies together with --group_by duplicates"
    )
    sentence = f"{len(leaked)} of {plural(count, _NOUNS[split])} {verb}{_effect(figures)}. {remedy}."
    severity = min(_WORST[split], 0.3 + 7 * len(leaked) / count)
    return Finding(Kind.LEAKAGE, severity, sentence, [path for path, *_ in groups], figures)


def _beside_copies(photos: Photos, copies: Copies, leaked: np.ndarray) -> list[list[str]]:
    """Return the path of each leaked photo, and those of a few copies of it among the training photos."""
    same: dict[int, list[int]] = {}  # contents that show the same as each
    for one, other in copies.pairs.tolist():
        same.setdefault(one, []).append(other)
        same.setdefault(other, []).append(one)
    of_content: dict[int, list[int]] = {}
    for number in np.flatnonzero(photos.splits == Split.TRAINING).tolist():
        of_content.setdefault(int(copies.content[number]), []).append(number)
    groups = []
    for number in leaked.tolist():
        content = int(copies.content[number])
        found = [copy for each in (content, *same.get(content, ())) for copy in of_content.get(each, ())]
        groups.append([photos.dataset.examples[each].path for each in (number, *found[:_COPIES_AT_MOST])])
    return groups


def _effect(figures: dict[str, Any]) -> str:
    if "accuracy" not in figures:
        return ""
    it = "it" if figures["leaked"] == 1 else "them"
    with_them, without = (f"{figures[name]:.1%}" for name in ("accuracy", "accuracy_without"))
    return f": the test accuracy is {with_them} with {it}, {without} without"
