"""Corners and edges of photos that tell a class better than the middle does: there may be a watermark, or a sign.

The last feature maps of a network say what it sees at each place of a photo; a class activation map (Zhou et al., CVPR
2016) is their sum, weighted by the class. The head of whole photos says little about marks, as it has enough else to
go by. So each place has a small head of its own, and is asked how well that tells photos that it was not trained on.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.doctor.findings import Finding, Kind, others
from retrain.doctor.photos import Photos
from retrain.errors import printable
from retrain.evaluation.kept import Kept, key_of
from retrain.evaluation.looking import Looker

_NAME = "places.sqlite"
_RECIPE = b"places 1"  # part of the keys by which values are kept: change it when they change
_MOST_BYTES = 2**26  # of a few thousand photos
_ALL, _MOST, _LEAST = 240, 80, 20  # photos that are looked at, and of one class at most and at least
_TIMES = 16  # as many photos as a report would look at: seconds
_RIM = 0.28  # of a side is corners and edges, at each end: 2 of 7 places, 1 of 4
_NAMES = (
    "top left corner", "top edge", "top right corner", "left edge", "middle", "right edge",
    "bottom left corner", "bottom edge", "bottom right corner",
)  # fmt: skip
_MIDDLE = _NAMES.index("middle")
_OUTER = np.delete(np.arange(len(_NAMES)), _MIDDLE)
_FOLDS = 5
_RIDGE = 0.1  # of the mean variance
_SURE = 0.9  # balanced accuracy from which a place tells a class
_BETTER = 1.3  # standard deviations between a class and the others, for one in the middle


@dataclass(frozen=True)
class _Suspect:
    """A class and the place that tells it, with a balanced accuracy, and that of the middle.

    `apart` is how many standard deviations lie between its scores and those of the others, `alike` how much its
    photos look alike there, for how much they do in the middle; `paths` are its photos, the surest first.
    """

    class_id: int
    where: str
    accuracy: float
    middle: float
    apart: float
    alike: float
    paths: Sequence[str]


def check(photos: Photos, *, passed_over: Collection[str] = ()) -> list[Finding]:
    """Return a finding where a corner or an edge of photos tells a class better than their middle does.

    A sample is looked at, of 20 to 80 photos of a class; nothing where the network has no feature maps.

    Args:
        photos: All of them.
        passed_over: Names of classes of which enough is said.
    """
    if photos.looker is None or photos.folder is None:
        return []
    kept = Kept(photos.folder, _NAME, most_bytes=_MOST_BYTES)
    abilities = photos.looker.abilities(kept)
    numbers = _sample(photos, _TIMES * abilities.photos) if abilities.has_maps else np.zeros(0, np.int64)
    seen = _seen(photos, photos.looker, kept, numbers)
    kept.write()
    numbers = numbers[[each is not None for each in seen]]
    if len(np.unique(photos.labels[numbers])) < 2:
        return []
    suspects = _suspects(photos, numbers, np.stack([each for each in seen if each is not None], axis=1))
    names = photos.dataset.class_names
    suspects = [each for each in suspects if names[each.class_id] not in passed_over]
    return [_finding(suspects, names)] if suspects else []


def _sample(photos: Photos, most: int) -> np.ndarray:
    """Return the numbers of photos int64 [n] to look at: of each class as many as may be, or of the largest ones."""
    counts = np.bincount(photos.labels, minlength=1)
    order = np.argsort(-counts, kind="stable")
    large = order[counts[order] >= _LEAST][: most // _LEAST]
    if len(large) < 2:
        return np.zeros(0, np.int64)
    each = max(_LEAST, min(_MOST, min(_ALL, most) // len(large)))
    random = np.random.default_rng(photos.seed)
    return np.concatenate([random.permutation(np.flatnonzero(photos.labels == class_id))[:each] for class_id in large])


def _seen(photos: Photos, looker: Looker, kept: Kept, numbers: np.ndarray) -> list[np.ndarray | None]:
    """Return what a network sees at the places of photos, float32 [9, D] each, None where it cannot tell."""
    paths = [photos.dataset.examples[number].path for number in numbers.tolist()]
    network = key_of(_RECIPE, looker.checksum, repr(looker.spec).encode())
    keys = [key_of(network, photos.keys[number] or b"") for number in numbers.tolist()]

    def look(missing: list[int]) -> Iterator[bytes | None]:
        for maps in looker.feature_maps([paths[place] for place in missing]):
            yield None if maps is None or min(maps.shape[:2]) < 3 else _by_place(maps).tobytes()

    found = kept.through(keys, look)
    return [
        None if each is None else np.frombuffer(each, "<f2").astype(np.float32).reshape(len(_NAMES), -1)
        for each in found
    ]


def _by_place(maps: np.ndarray) -> np.ndarray:
    """Return the direction of the mean of feature maps [h, w, D] at each place, float16 [9, D]."""
    rows, columns = (_thirds(side) for side in maps.shape[:2])
    means = np.stack([maps[row, column].astype(np.float32).mean(axis=(0, 1)) for row in rows for column in columns])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    directions: np.ndarray = (means / np.maximum(lengths, 1e-6)).astype("<f2")
    return directions


def _thirds(side: int) -> list[slice]:
    rim = max(1, round(_RIM * side))
    return [slice(0, rim), slice(rim, side - rim), slice(side - rim, side)]


def _suspects(photos: Photos, numbers: np.ndarray, seen: np.ndarray) -> list[_Suspect]:
    """Return which classes of photos int64 [n] the rim tells better, from float32 [9, n, D]; the best told first."""
    classes, labels = np.unique(photos.labels[numbers], return_inverse=True)
    is_class = np.eye(len(classes), dtype=bool)[labels]
    fold = np.zeros(len(labels), np.int64)
    for mine in is_class.T:
        fold[mine] = np.arange(mine.sum()) % _FOLDS
    scores = np.stack([_held_out(each.astype(np.float64), is_class, fold) for each in seen])
    suspects = []
    for column, (class_id, mine) in enumerate(zip(classes.tolist(), is_class.T, strict=True)):
        own, rest = scores[:, mine, column], scores[:, ~mine, column]
        spread = np.sqrt(np.maximum((own.var(axis=1) + rest.var(axis=1)) / 2, 1e-12))
        apart = (own.mean(axis=1) - rest.mean(axis=1)) / spread
        best = int(_OUTER[apart[_OUTER].argmax()])
        accuracies = ((own > 0).mean(axis=1) + (rest <= 0).mean(axis=1)) / 2
        if accuracies[best] < _SURE or apart[best] < _BETTER * apart[_MIDDLE]:
            continue
        alike = np.linalg.norm(seen[:, mine].mean(axis=1), axis=1)
        surest = numbers[mine][np.argsort(-own[best], kind="stable")]
        suspects.append(
            _Suspect(
                class_id, _NAMES[best], float(accuracies[best]), float(accuracies[_MIDDLE]), float(apart[best]),
                float(alike[best] / alike[_MIDDLE]), [photos.dataset.examples[n].path for n in surest.tolist()],
            )
        )  # fmt: skip
    if len(classes) == 2:  # each of them is told as well; the one with a mark looks alike there
        return sorted(suspects, key=lambda suspect: -suspect.alike)[:1]
    return sorted(suspects, key=lambda suspect: -suspect.apart)


def _held_out(values: np.ndarray, is_class: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return scores [n, C] of classes, above 0 where one is likelier than usual, by the photos of all other folds."""
    scores = np.zeros(is_class.shape)
    for number in range(_FOLDS):
        rest, held = fold != number, fold == number
        mean, share = values[rest].mean(axis=0), is_class[rest].mean(axis=0)
        centred = values[rest] - mean
        products = centred @ centred.T
        ridge = _RIDGE * max(float(np.trace(products)) / len(products), 1e-9)
        weights = np.linalg.solve(products + ridge * np.eye(len(products)), is_class[rest] - share)
        scores[held] = (values[held] - mean) @ centred.T @ weights
    return scores


def _finding(suspects: Sequence[_Suspect], class_names: Sequence[str]) -> Finding:
    worst, more = suspects[0], len(suspects) - 1
    so_too = f", and so do corners or edges for {more} other class{'es' if more > 1 else ''}" if more else ""
    sentence = (
        f"The {worst.where} of a photo alone tells {class_names[worst.class_id]} from "
        f"{others(worst.class_id, class_names)} in {worst.accuracy:.0%} of cases, where chance is right in "
        f"50%, and better than the middle does{so_too}: the network may learn a mark that is there. Look for one, and "
        f"crop or cover it."
    )
    figures = {
        "property": "place",
        "places": {
            class_names[each.class_id]: {
                "place": each.where,
                "balanced_accuracy": round(each.accuracy, 4),
                "balanced_accuracy_of_middle": round(each.middle, 4),
            }
            for each in suspects
        },
    }
    return Finding(Kind.SHORTCUT, 0.8, printable(sentence), worst.paths, figures)
