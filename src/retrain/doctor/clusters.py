"""Classes that are two: their bottlenecks fall into two clusters with a gap between them."""

from dataclasses import dataclass

import numpy as np

from retrain.doctor import threads
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.evaluation import neighbours
from retrain.head import multiply

_MOST = 500  # photos of a class that are looked at
_LEAST = 40  # photos of a class, for clusters in halves of it to say something
_SHARE = 0.1  # of a class that each cluster has at least
_STARTS, _ROUNDS = 3, 15
_NEAREST = 5
# No class of the flowers and of CIFAR-10 reaches both; of santa, whose photos and drawings are one class, it does.
_APART = 3.0
_CROSSING = 0.1
_SHOWN = 6  # photos of each cluster
_EM_ROUNDS = 100
_LEAST_DEVIATION = 0.02  # of a part of a mixture, as a share of the whole's


@dataclass(frozen=True)
class Clusters:
    """Two clusters of n vectors: `second` bool [n] are in the second, `margin` float32 [n] says how clearly.

    `apart` is Ashman's D of both, along the line through their centres, measured on vectors that the line was not
    found with: 2 for a mixture that has just two peaks. `crossing` is the share of nearest neighbours that lie in the
    other cluster, as a share of those that would by chance.
    """

    second: np.ndarray
    margin: np.ndarray
    apart: float
    crossing: float

    @property
    def are_clear(self) -> bool:
        """Return whether there is a gap between them, and neither is just some outliers."""
        share = float(self.second.mean())
        return self.apart >= _APART and self.crossing <= _CROSSING and _SHARE <= share <= 1 - _SHARE


def check(photos: Photos) -> list[Finding]:
    """Return classes whose photos fall into two clusters, the clearest first, each with typical photos of both."""
    class_ids = np.flatnonzero(np.bincount(photos.labels) >= _LEAST).tolist()
    found = [each for each in threads.each(lambda class_id: _of_class(photos, class_id), class_ids) if each]
    return sorted(found, key=lambda finding: -finding.severity)


def _of_class(photos: Photos, class_id: int) -> Finding | None:
    """Return the finding about a class, if it falls into two."""
    rng = np.random.default_rng([photos.seed, class_id])
    rows = np.flatnonzero(photos.labels == class_id)
    if len(rows) > _MOST:
        rows = np.sort(rng.choice(rows, _MOST, replace=False))
    clusters = two(photos.scaled.units(rows), rng)
    return _finding(photos, class_id, rows, clusters) if clusters.are_clear else None


def two(vectors: np.ndarray, rng: np.random.Generator) -> Clusters:
    """Return the two clusters of unit vectors float32 [n, D], n >= 4, by k-means.

    Ashman et al., "Detecting bimodality in astronomical datasets", Astronomical Journal 108, 1994. A line that k-means
    found parts its own vectors in any case; so half of the vectors find it, and the other half are measured.
    """
    order = rng.permutation(len(vectors))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    apart = [
        _ashman(vectors[new] @ np.subtract(*_centres(vectors[known], rng))) for known, new in (halves, halves[::-1])
    ]
    margin = _margins(vectors, _centres(vectors, rng))
    second = margin > 0
    near = np.empty((len(vectors), len(vectors)), np.float32)
    multiply(vectors, vectors.T, out=near)
    np.fill_diagonal(near, -np.inf)
    nearest = neighbours.largest(near, _NEAREST)[1]
    chance = 2 * second.mean() * (1 - second.mean())
    crossing = float((second[nearest] != second[:, None]).mean() / chance) if chance else 1.0
    return Clusters(second, margin, min(apart), crossing)


def _centres(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the centres float32 [2, D] of two clusters: the best of a few starts of Lloyd's k-means.

    The second start lies far from the first (k-means++, Arthur and Vassilvitskii, 2007).
    """
    best, least = vectors[:2], np.inf
    for _ in range(_STARTS):
        first = int(rng.integers(len(vectors)))
        far = np.maximum(1 - vectors @ vectors[first], 0).astype(np.float64)
        far = far / far.sum() if far.sum() > 0 else np.full(len(far), 1 / len(far))
        centres, before = vectors[[first, int(rng.choice(len(vectors), p=far))]], np.zeros(0, bool)
        for _ in range(_ROUNDS):
            second = _margins(vectors, centres) > 0
            if second.all() or not second.any() or np.array_equal(second, before):
                break
            before = second
            centres = np.stack([vectors[~second].mean(axis=0), vectors[second].mean(axis=0)])
        chosen = centres[(_margins(vectors, centres) > 0).astype(int)]
        squares = float(((vectors - chosen) ** 2).sum())
        if squares < least:
            best, least = centres, squares
    return best


def _margins(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return float32 [n]: how much nearer each vector is to the second centre than to the first, squared."""
    nearness: np.ndarray = 2 * (vectors @ centres.T) - (centres**2).sum(axis=1)
    margins: np.ndarray = nearness[:, 1] - nearness[:, 0]
    return margins


def _ashman(values: np.ndarray) -> float:
    """Return Ashman's D of a mixture of two normal distributions, fitted to numbers [n] by EM; 0 if they are equal."""
    ordered = np.sort(values.astype(np.float64))
    whole = ordered.std()
    if not whole > 0:
        return 0.0
    count = np.arange(1, len(ordered))
    sums = ordered.cumsum()
    # The split that leaves the smallest sum of squares is where EM starts.
    left, right = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    cut = int((count * (len(ordered) - count) * (right - left) ** 2).argmax()) + 1
    parts = ordered[:cut], ordered[cut:]
    weights, means = np.array([len(part) for part in parts]) / len(ordered), np.array([part.mean() for part in parts])
    deviations = np.array([part.std() for part in parts]) + _LEAST_DEVIATION * whole
    for _ in range(_EM_ROUNDS):
        densities = weights * np.exp(-0.5 * ((ordered[:, None] - means) / deviations) ** 2) / deviations
        shares = densities / np.maximum(densities.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        sizes = np.maximum(shares.sum(axis=0), np.finfo(float).tiny)
        weights, means = sizes / len(ordered), shares.T @ ordered / sizes
        squares = (shares * (ordered[:, None] - means) ** 2).sum(axis=0) / sizes
        deviations = np.sqrt(squares) + _LEAST_DEVIATION * whole
    return float(abs(means[0] - means[1]) / np.sqrt((deviations**2).mean()))


def _finding(photos: Photos, class_id: int, rows: np.ndarray, clusters: Clusters) -> Finding:
    name = photos.dataset.class_names[class_id]
    typical = [rows[np.argsort(margin, kind="stable")[:_SHOWN]] for margin in (clusters.margin, -clusters.margin)]
    paths = [[photos.dataset.examples[row].path for row in cluster.tolist()] for cluster in typical]
    is_whole = len(rows) == np.count_nonzero(photos.labels == class_id)
    smaller = int(min(clusters.second.sum(), (~clusters.second).sum()))
    of_them = f"its {len(rows)}" if is_whole else f"a sample of {len(rows)}"
    sentence = (
        f"{name!r} may be two classes: {smaller} of {of_them} photos are unlike the other {len(rows) - smaller}. Look "
        f"at both kinds, and give them folders of their own if they are to be told apart."
    )
    figures = {
        "class": name,
        "sizes": [int((~clusters.second).sum()), int(clusters.second.sum())],
        "examples": paths,
        "apart": round(clusters.apart, 2),
    }
    return Finding(Kind.SPLIT_CLASS, min(1.0, clusters.apart / 10), sentence, [*paths[0], *paths[1]], figures)
