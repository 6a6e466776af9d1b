"""Photos that a model is measured on although it was trained on copies of them."""

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


def check(photos: Photos, copies: Copies, predicted: np.ndarray | None = None) -> list[Finding]:
    """Return a finding for each part that is measured on, if photos in it have copies among the training photos.

    Args:
        photos: All photos.
        copies: Which of them show the same.
        predicted: int64 [N], the class that a model gives each test photo, -1 for photos that it was not asked about:
            then the test accuracy without the leaked ones is said, if enough photos are left for one.
    """
    return [
        finding
        for split in (Split.TESTING, Split.VALIDATION)
        if (finding := _leaked_into(photos, copies, split, predicted if split is Split.TESTING else None))
    ]


def _leaked_into(photos: Photos, copies: Copies, split: Split, predicted: np.ndarray | None) -> Finding | None:
    splits = np.array([example.split for example in photos.dataset.examples])
    held_out = np.flatnonzero(splits == split)
    trained = np.zeros(len(splits), bool)  # contents that a training photo has, or shows
    trained[copies.content[splits == Split.TRAINING]] = True
    one, other = copies.pairs.T
    shown = trained.copy()
    shown[one[trained[other]]] = True
    shown[other[trained[one]]] = True
    is_leaked = shown[copies.content[held_out]]
    if not is_leaked.any():
        return None
    leaked, count = held_out[is_leaked], len(held_out)
    figures: dict[str, Any] = {"split": split.value, "leaked": len(leaked), "photos": count}
    asked = held_out if predicted is None else held_out[predicted[held_out] >= 0]
    rest = np.setdiff1d(asked, leaked)
    if predicted is not None and len(rest) >= _ENOUGH:
        right = predicted == photos.labels
        figures |= {"accuracy": float(right[asked].mean()), "accuracy_without": float(right[rest].mean())}
    figures["groups"] = _beside_copies(photos, copies, leaked, splits == Split.TRAINING)
    paths = [path for path, *_ in figures["groups"]]
    verb = "is a copy of a training photo" if len(leaked) == 1 else "are copies of training photos"
    remedy = (
        "Remove one of each" if is_ready_made(photos.dataset) else "Keep copies together with --group_by duplicates"
    )
    sentence = f"{len(leaked)} of {plural(count, _NOUNS[split])} {verb}{_effect(figures)}. {remedy}."
    return Finding(Kind.LEAKAGE, min(_WORST[split], 0.3 + 7 * len(leaked) / count), sentence, paths, figures)


def _beside_copies(photos: Photos, copies: Copies, leaked: np.ndarray, trained: np.ndarray) -> list[list[str]]:
    """Return the path of each leaked photo, and those of a few copies of it among the trained ones, bool [N]."""
    same: dict[int, list[int]] = {}  # contents that show the same as each
    for one, other in copies.pairs.tolist():
        same.setdefault(one, []).append(other)
        same.setdefault(other, []).append(one)
    of_content: dict[int, list[int]] = {}
    for number in np.flatnonzero(trained).tolist():
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
