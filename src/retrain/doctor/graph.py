"""The nearest photos of each photo: the largest cosines of standardised bottlenecks, for the checks that compare."""

from dataclasses import dataclass

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.evaluation import neighbours

NEAREST = 10
_ROWS, _COLUMNS = 512, 4096  # of a block of products
_FIRST = 1024  # columns that give each row its first bound, which most others stay below
_DIGITS = 5  # the last ones of a product depend on how many there are at once
_HALF = 0.4 * 10**-_DIGITS  # by so much must a product exceed another to be larger when rounded


@dataclass(frozen=True)
class Graph:
    """`neighbours` int64 [N, k] are the numbers of the photos nearest to each, which is left out itself, nearest first.

    `similarity` float32 [N, k] are their cosines; equally near ones are in the order of their numbers.
    """

    neighbours: np.ndarray
    similarity: np.ndarray


def graph_of(gather: Gather, count: int, *, k: int = NEAREST) -> Graph:
    """Return the k nearest of photos 0 to `count`, fewer where there are not as many.

    Args:
        gather: Returns the bottlenecks float32 [n, D] of photos int64 [n].
        count: How many photos there are.
        k: How many neighbours each gets.
    """
    k = max(0, min(k, count - 1))
    found, near = np.zeros((count, k), np.int64), np.zeros((count, k), np.float32)
    if k:
        vectors = _normalised(gather, count)
        for start in range(0, count, _ROWS):
            rows = slice(start, min(start + _ROWS, count))
            found[rows], near[rows] = _nearest(vectors, rows, k)
    return Graph(found, near)


def _normalised(gather: Gather, count: int) -> np.ndarray:
    """Return standardised bottlenecks float32 [N, D] of length 1."""
    numbers = np.arange(count)
    mean, deviation = neighbours.scale_of(gather, numbers)
    vectors = np.empty((count, len(mean)), np.float32)
    for start in range(0, count, _COLUMNS):
        block, lengths = neighbours.standardised(gather(numbers[start : start + _COLUMNS]), mean, deviation)
        vectors[start : start + _COLUMNS] = block / lengths[:, None]
    return vectors


def _nearest(vectors: np.ndarray, rows: slice, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers int64 [n, k] and cosines float32 [n, k] of the photos nearest to some rows."""
    count, best = rows.stop - rows.start, _Best(rows.stop - rows.start, k)
    start = 0
    while start < len(vectors):
        stop = min(start + (_COLUMNS if start else max(_FIRST, k + 1)), len(vectors))
        products = vectors[rows] @ vectors[start:stop].T
        own = np.arange(max(rows.start, start), min(rows.stop, stop))
        products[own - rows.start, own - start] = -np.inf
        best.add(products, start)
        start = stop
    return best.numbers.reshape(count, k), np.clip(best.values.reshape(count, k), -1, 1)


class _Best:
    """The k largest of each row of products that come in blocks of columns, from the first column on."""

    def __init__(self, rows: int, k: int) -> None:
        self._k, self._rows = k, np.repeat(np.arange(rows), k)
        self.numbers = np.zeros(0, np.int64)
        self.values = np.zeros(0, np.float32)

    def add(self, products: np.ndarray, start: int) -> None:
        """Take part in the products float32 [n, m] of columns from `start` on; the first block has k + 1 or more."""
        if not len(self.values):
            bounds = np.partition(products, -self._k, axis=1)[:, -self._k] - np.float32(3 * _HALF)
            rows = self._rows[:0]
        else:
            bounds = self.values.reshape(-1, self._k)[:, -1] + np.float32(_HALF)
            rows = self._rows
        where, columns = np.nonzero(products > bounds[:, None])
        values = np.concatenate([self.values, np.round(products[where, columns], _DIGITS)])
        numbers, rows = np.concatenate([self.numbers, columns + start]), np.concatenate([rows, where])
        order = np.lexsort((numbers, -values, rows))
        rows = rows[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = order[rank < self._k]
        self.numbers, self.values = numbers[kept], values[kept]
