"""Which photos show the same: the same file, or one that was cropped, mirrored, resized or encoded again.

Near-duplicates are looked for among the nearest photos of each, and only as near as nine in ten have their
tenth: what is near follows from the set itself. Whether they are copies, their pictures say (`fingerprints.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.doctor import fingerprints, pictures
from retrain.doctor.photos import Photos
from retrain.evaluation import neighbours

_SHARE = 0.9  # of photos, whose last neighbour is nearer than the furthest that is looked at


@dataclass(frozen=True)
class Copies:
    """Photos that show the same, by their numbers.

    `content` int64 [N] is the first photo with the same content as each, itself if there is no other. `pairs` int64
    [m, 2] are different contents that show the same, each by its first photo. `groups` are all those that belong
    together, by their content or as pairs, each photo once: of near-duplicates in a chain, those are together that are
    all near each other (complete linkage).
    """

    content: np.ndarray
    pairs: np.ndarray
    groups: Sequence[Sequence[int]]


def find(photos: Photos) -> Copies:
    """Return which photos show the same; a photo is looked at where others are near it."""
    content, graph = _contents(photos.keys), photos.graph
    apart = 1 - graph.similarity
    bound = float(np.quantile(apart[:, -1], _SHARE)) if apart.size else 0.0
    pairs = _candidates(content, graph.neighbours, apart <= bound)
    shown = np.unique(pairs)
    prints = fingerprints.of(pictures.of(photos, shown))
    pairs = pairs[fingerprints.copies(prints, np.searchsorted(shown, pairs))]
    together = np.arange(len(content))
    for number, first in _linked(photos, pairs, bound).items():
        together[number] = first
    groups = together[content]
    several = np.flatnonzero(np.bincount(groups, minlength=1)[groups] > 1)
    members: dict[int, list[int]] = {}
    for number, first in zip(several.tolist(), groups[several].tolist(), strict=True):
        members.setdefault(first, []).append(number)
    return Copies(content, pairs, list(members.values()))


def linked(found: Copies) -> np.ndarray:
    """Return a number for each photo, int64 [N], the same for photos between which there is a chain of copies."""
    first = found.content.copy()

    def root(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = int(first[number])
        return number

    for one, other in found.pairs.tolist():
        least, most = sorted((root(one), root(other)))
        first[most] = least
    return np.array([root(number) for number in range(len(first))], np.int64)


def _contents(keys: Sequence[bytes | None]) -> np.ndarray:
    """Return the first number with the same key as each, int64 [N]; what has no key is alone."""
    first: dict[bytes, int] = {}
    firsts = (number if key is None else first.setdefault(key, number) for number, key in enumerate(keys))
    return np.fromiter(firsts, np.int64, len(keys))


def _candidates(content: np.ndarray, near: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return pairs int64 [m, 2] of different contents, the smaller number first, each once."""
    from_, place = np.nonzero(chosen)
    pairs = np.sort(np.stack([content[from_], content[near[from_, place]]], axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _linked(photos: Photos, pairs: np.ndarray, bound: float) -> dict[int, int]:
    """Return photo -> the first of its group, for photos in pairs: groups within which none are further apart."""
    numbers = np.unique(pairs)
    if not len(numbers):
        return {}
    vectors = photos.scaled.units(numbers)
    places = np.searchsorted(numbers, pairs)
    near = np.round(np.einsum("md,md->m", vectors[places[:, 0]], vectors[places[:, 1]]), neighbours.DIGITS)
    group_of = {place: [place] for place in range(len(numbers))}
    for place in np.argsort(-near, kind="stable").tolist():
        one, other = (group_of[each] for each in places[place].tolist())
        if one is other or float((vectors[one] @ vectors[other].T).min()) < 1 - bound:
            continue
        one += other
        group_of |= dict.fromkeys(other, one)
    return {int(numbers[place]): int(numbers[min(group)]) for place, group in group_of.items()}
