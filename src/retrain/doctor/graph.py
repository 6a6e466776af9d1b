"""The nearest photos of each photo: the largest cosines of standardised bottlenecks, for the checks that compare.

Of few photos, all are compared. Many are divided into cells of similar ones, and each is compared with those in the
cells whose middles are nearest to it (an inverted file; Sivic and Zisserman, 2003), which finds nearly the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.evaluation import neighbours

NEAREST = 10
_COMPARED = 10_000  # photos that are all compared
_CELLS = 16  # that each of more photos is compared with the photos of
_LEARNT_FROM, _ROUNDS = 64, 6  # photos for each cell from which its middle is found, and steps of that
_ROWS, _COLUMNS = 1024, 4096  # of a block of products
_DIGITS = 5  # the last ones of a product depend on how many there are at once
_MARGIN = np.float32(0.4 * 10**-_DIGITS)  # by so much must a product exceed another to be larger when rounded


@dataclass(frozen=True)
class Graph:
    """`neighbours` int64 [N, k] are the numbers of the photos nearest to each, which is left out itself, nearest first.

    `similarity` float32 [N, k] are their cosines; equally near ones are in the order of their numbers.
    """

    neighbours: np.ndarray
    similarity: np.ndarray


def graph_of(gather: Gather, count: int, *, k: int = NEAREST) -> Graph:
    """Return the k nearest of photos 0 to `count`, fewer where there are not as many.

    Of more than 10,000 photos, some of the k may be a little further away than the nearest.

    Args:
        gather: Returns the bottlenecks float32 [n, D] of photos int64 [n].
        count: How many photos there are.
        k: How many neighbours each gets.
    """
    k = max(0, min(k, count - 1))
    best = _Best(count, k)
    if k:
        vectors, everything = _normalised(gather, count), np.arange(count)
        cells = _cells(vectors) if count > _COMPARED else [(everything, everything)]
        for rows, columns in cells:
            best.compare(vectors, rows, columns)
        if len(lacking := best.forget_lacking()):
            best.compare(vectors, lacking, everything)
    return Graph(best.numbers, np.clip(best.values, -1, 1))


def _normalised(gather: Gather, count: int) -> np.ndarray:
    """Return standardised bottlenecks float32 [N, D] of length 1."""
    numbers = np.arange(count)
    mean, deviation = neighbours.scale_of(gather, numbers)
    vectors = np.empty((count, len(mean)), np.float32)
    for start in range(0, count, _COLUMNS):
        block, lengths = neighbours.standardised(gather(numbers[start : start + _COLUMNS]), mean, deviation)
        np.divide(block, lengths[:, None], out=vectors[start : start + _COLUMNS])
    return vectors


def _cells(vectors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each cell the numbers of the photos to compare with those in it, and of these, both ascending."""
    middles = _middles(vectors)
    nearest = np.empty((len(vectors), _CELLS), np.int32)
    for start in range(0, len(vectors), _COLUMNS):
        near = vectors[start : start + _COLUMNS] @ middles.T
        chosen = np.argpartition(-near, _CELLS - 1, axis=1)[:, :_CELLS]
        order = np.argsort(-np.take_along_axis(near, chosen, axis=1), axis=1, kind="stable")
        nearest[start : start + _COLUMNS] = np.take_along_axis(chosen, order, axis=1)
    places = np.argsort(nearest.ravel(), kind="stable")
    members = np.argsort(nearest[:, 0], kind="stable")
    ends = [np.cumsum(np.bincount(each.ravel(), minlength=len(middles))) for each in (nearest, nearest[:, 0])]
    for rows, columns in zip(np.split(places, ends[0][:-1]), np.split(members, ends[1][:-1]), strict=True):
        yield rows // _CELLS, columns


def _middles(vectors: np.ndarray) -> np.ndarray:
    """Return the middles of cells, float32 [C, D] of length 1: k-means by cosine from evenly spread photos."""
    count = int(len(vectors) ** 0.5)
    sample = vectors[:: max(1, len(vectors) // (_LEARNT_FROM * count))]
    middles = sample[np.arange(count) * len(sample) // count]
    for _ in range(_ROUNDS):
        nearest = np.concatenate(
            [(sample[start : start + _COLUMNS] @ middles.T).argmax(axis=1) for start in range(0, len(sample), _COLUMNS)]
        )
        order, counts = np.argsort(nearest, kind="stable"), np.bincount(nearest, minlength=count)
        there = np.flatnonzero(counts)
        sums = np.add.reduceat(sample[order], (np.cumsum(counts) - counts)[there], axis=0)
        middles = middles.copy()
        middles[there] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return middles


class _Best:
    """The k nearest of each photo among those that it was compared with; -1 and minus infinity where there are less."""

    def __init__(self, count: int, k: int) -> None:
        self.numbers = np.full((count, k), -1, np.int64)
        self.values = np.full((count, k), -np.inf, np.float32)

    def forget_lacking(self) -> np.ndarray:
        """Return the numbers of photos that were compared with fewer than k others, as if they had not been."""
        lacking = np.flatnonzero(self.numbers[:, -1] < 0)
        self.numbers[lacking], self.values[lacking] = -1, -np.inf
        return lacking

    def compare(self, vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Compare photos with others, all by their numbers in ascending order; no two are compared more than once."""
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            left = vectors[some]
            for first in range(0, len(columns), _COLUMNS):
                others = columns[first : first + _COLUMNS]
                products = left @ vectors[others].T
                _, own, same = np.intersect1d(some, others, assume_unique=True, return_indices=True)
                products[own, same] = -np.inf
                self._add(products, some, others)

    def _add(self, products: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Take part in products float32 [n, m] of rows int64 [n] and columns int64 [m]."""
        is_new = np.isneginf(self.values[rows, 0])
        for chosen, take in ((is_new, self._begin), (~is_new, self._improve)):
            if chosen.all():
                take(products, rows, columns)
            elif chosen.any():
                take(products[chosen], rows[chosen], columns)

    def _begin(self, products: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Take the largest products of rows that have none: many may be equal, and all would be too many."""
        count = min(self.values.shape[1], len(columns))
        values, places = neighbours.largest(np.round(products, _DIGITS), count)
        self.values[rows, :count] = values
        self.numbers[rows, :count] = np.where(np.isneginf(values), -1, columns[places])

    def _improve(self, products: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Put products that are larger in the place of those that rows have."""
        k, bounds = self.values.shape[1], self.values[rows, -1] + _MARGIN
        where, found = np.nonzero(products > bounds[:, None])
        if not len(where):
            return
        changed, where_changed = np.unique(where, return_inverse=True)
        old = rows[changed]
        values = np.concatenate([self.values[old].ravel(), np.round(products[where, found], _DIGITS)])
        numbers = np.concatenate([self.numbers[old].ravel(), columns[found]])
        places = np.concatenate([np.repeat(np.arange(len(changed)), k), where_changed])
        order = np.lexsort((numbers, -values, places))
        places = places[order]
        kept = order[np.arange(len(places)) - np.searchsorted(places, places) < k]
        self.values[old], self.numbers[old] = values[kept].reshape(-1, k), numbers[kept].reshape(-1, k)
