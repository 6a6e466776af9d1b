"""Photos unlike the others of their class: far from the nearest of them, beside how far the class's photos usually are.

Distance to the k nearest as a score: Ramaswamy, Rastogi and Shim, "Efficient algorithms for mining outliers from large
data sets", SIGMOD 2000; among a sample, of vectors of length 1: Sun et al., "Out-of-distribution detection with deep
nearest neighbors", ICML 2022. Quartiles as a scale that outliers do not move: Tukey, "Exploratory data analysis", 1977.
"""

from collections.abc import Collection, Sequence

import numpy as np

from retrain.data.marks import Action, Mark
from retrain.doctor import threads
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural, printable

_SAMPLE = 200  # photos of a class that the others are compared with
_NEAREST = 0.1  # of the sample: with fewer, a handful of strange photos that are alike would hide each other
_FENCE = 2.0  # distances between the quartiles, above the upper one, where what is usual ends
_LEAST = 20  # photos that a class must have: the quartiles of fewer say little
_SMALLEST = 1e-6  # length, and distance between the quartiles
_AT_ONCE = 4096


def check(photos: Photos, *, known: Collection[str] = ()) -> list[Finding]:
    """Return a finding that names the outliers of all classes, those first that are farthest beyond, or none.

    Args:
        photos: The photos.
        known: Paths that another finding names already: photos in the wrong folder are far from its others, too.
    """
    excess = np.full(len(photos.labels), -np.inf)

    def measure(class_id: int) -> None:
        members = np.flatnonzero(photos.labels == class_id)
        excess[members] = beyond(own_distances(photos, members))

    threads.run(measure, np.flatnonzero(np.bincount(photos.labels) >= _LEAST).tolist())
    outside = np.flatnonzero(excess > 0)
    found = outside[np.argsort(-excess[outside], kind="stable")].tolist()
    found = [number for number in found if photos.dataset.examples[number].path not in known]
    return [_finding(photos, found, excess)] if found else []


def beyond(distances: np.ndarray) -> np.ndarray:
    """Return by how many distances between the quartiles each of a class's photos is beyond the fence, float64 [n].

    Below 0 are those within it, and all of a class whose photos are the same.
    """
    lower, upper = np.quantile(distances.astype(np.float64), [0.25, 0.75])
    if upper - lower < _SMALLEST:
        return np.full(len(distances), -np.inf)
    excess: np.ndarray = (distances - upper) / (upper - lower) - _FENCE
    return excess


def own_distances(photos: Photos, members: np.ndarray) -> np.ndarray:
    """Return how far each photo of a class is from the nearest in a sample of it, float32 [n].

    That is 1 less their mean cosine. Bottlenecks are not standardised: on the test sets, the cosines of raw ones told
    photos of another set from the class's own better.

    Args:
        photos: All photos.
        members: int64 [n], the numbers of those of one class, two or more.
    """
    sample = members
    if len(members) > _SAMPLE:
        sample = np.sort(np.random.default_rng(photos.seed).choice(members, _SAMPLE, replace=False))
    nearest = max(1, round(_NEAREST * len(sample)))
    usual = _unit(photos.gather(sample))
    distances = np.empty(len(members), np.float32)
    for start in range(0, len(members), _AT_ONCE):
        block = members[start : start + _AT_ONCE]
        cosines = _unit(photos.gather(block)) @ usual.T
        cosines[block[:, None] == sample] = -np.inf
        distances[start : start + _AT_ONCE] = 1 - np.sort(cosines, axis=1)[:, -nearest:].mean(axis=1)
    return distances


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors float32 [n, D] of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, _SMALLEST)
    return unit


def _finding(photos: Photos, numbers: Sequence[int], excess: np.ndarray) -> Finding:
    dataset = photos.dataset
    paths = [dataset.examples[number].path for number in numbers]
    one = len(paths) == 1
    first, those = (": ", "it if it does") if one else (", first of all ", "those that do")
    sentence = (
        f"{plural(len(paths), 'photo')} {'is' if one else 'are'} unlike the others of {'its' if one else 'their'} "
        f"class{first}{printable(paths[0])}. Look at {'it' if one else 'them'}, and remove {those} not belong there."
    )
    rows = [
        {"path": path, "class": dataset.class_names[dataset.examples[number].class_id],
         "beyond": round(float(excess[number]), 2)}
        for path, number in zip(paths, numbers, strict=True)
    ]  # fmt: skip
    severity = min(1.0, 0.1 + 5 * len(paths) / len(excess))
    return Finding(
        Kind.OUTLIER, severity, sentence, paths, {"outliers": rows}, [Mark(path, Action.REMOVE) for path in paths]
    )
