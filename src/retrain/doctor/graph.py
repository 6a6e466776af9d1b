"""The nearest photos of each photo: the largest cosines of standardised bottlenecks, for the checks that compare.

Of few photos, all are compared. Of many, those that are likely the nearest are found by fewer numbers for each photo
(the principal components of a sample), and these are then compared by all: by cells of similar photos (`cells.py`), and
of very many by an index (`near_index.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.doctor import cells, near_index, threads
from retrain.evaluation import neighbours

_NEAREST = 10
_COMPARED = 10_000  # photos that are all compared
_LIKELY = 16  # photos for each of more that may be the nearest: with them, of ten 9.9 are found on the test sets
_COMPONENTS = 192
_SAMPLE = 8192  # photos that the components are found with
_ROWS = 512  # of a block of products
_AT_ONCE = 4096  # bottlenecks that are read
_SMALLEST = 1e-6  # length


@dataclass(frozen=True)
class Graph:
    """`neighbours` int64 [N, k] are the numbers of the photos nearest to each, which is left out itself, nearest first.

    `similarity` float32 [N, k] are their cosines; equally near ones are in the order of their numbers.
    """

    neighbours: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Scaled:
    """Reads standardised bottlenecks of photos 0 to `count`; `gather` reads them as they are."""

    gather: Gather
    count: int

    @cached_property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of each dimension, float32 [D], of a sample of the photos."""
        return neighbours.scale_of(self.gather, np.arange(self.count))

    def units(self, numbers: np.ndarray) -> np.ndarray:
        """Return the standardised bottlenecks of photos int64 [n], float32 [n, D] of length 1."""
        vectors, lengths = neighbours.standardised(self.gather(numbers), *self.scale)
        vectors /= lengths[:, None]
        return vectors


def graph_of(scaled: Scaled) -> Graph:
    """Return the ten nearest of each of some photos, fewer where there are not as many.

    Of more than 10,000 photos, some of the ten may be a little further away than the nearest.

    Raises:
        CheckError: There are very many photos, and the index for them is not installed.
    """
    count = scaled.count
    near_index.require(count)
    k = max(0, min(_NEAREST, count - 1))
    if not k:
        return Graph(np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32))
    with threads.one_of_blas():
        if count <= _COMPARED:
            return _exact(scaled, k)
        return _among_likely(scaled, k, near_index.candidates if count > near_index.MANY else cells.candidates)


def _exact(scaled: Scaled, k: int) -> Graph:
    count = scaled.count
    vectors = np.empty((count, len(scaled.scale[0])), np.float32)
    for start in range(0, count, _AT_ONCE):
        block = np.arange(start, min(count, start + _AT_ONCE))
        vectors[block] = scaled.units(block)
    found, similarity = np.empty((count, k), np.int64), np.empty((count, k), np.float32)

    def compare(start: int) -> None:
        rows = slice(start, start + _ROWS)
        products = vectors[rows] @ vectors.T
        np.fill_diagonal(products[:, start:], -np.inf)
        similarity[rows], found[rows] = neighbours.largest(np.round(products, neighbours.DIGITS), k)

    threads.run(compare, range(0, count, _ROWS))
    return Graph(found, np.clip(similarity, -1, 1))


def _among_likely(scaled: Scaled, k: int, find: Callable[[np.ndarray, int], np.ndarray]) -> Graph:
    """Return the nearest of some that are likely the nearest.

    Args:
        scaled: Reads the photos.
        k: How many neighbours each gets.
        find: Returns the numbers int64 [N, m] of photos that are likely the nearest to each, another one each, from
            vectors float32 [N, d] of length 1, and m.
    """
    count, (mean, deviation) = scaled.count, scaled.scale
    small, lengths = _components(scaled)
    likely = find(small, min(count - 1, max(_LIKELY, k)))
    del small
    likely.sort(axis=1)
    found, similarity = np.empty((count, k), np.int64), np.empty((count, k), np.float32)

    def choose(start: int) -> None:
        numbers = np.arange(start, min(count, start + _ROWS))
        beside = likely[numbers]
        # A product of two standardised vectors, of which the second is read as it is: that is most of the work.
        units = scaled.units(numbers) / deviation
        vectors = scaled.gather(beside.ravel()).reshape(*beside.shape, -1)
        products = (vectors @ units[:, :, None])[:, :, 0] - (units @ mean)[:, None]
        products = np.round(products / lengths[beside], neighbours.DIGITS)
        similarity[numbers], places = neighbours.largest(products, k)
        found[numbers] = np.take_along_axis(beside, places, axis=1)

    threads.run(choose, range(0, count, _ROWS))
    return Graph(found, np.clip(similarity, -1, 1))


def _components(scaled: Scaled) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components of photos, float32 [N, d] of length 1, and the lengths of all, float32 [N]."""
    count = scaled.count
    axes = _axes(scaled.units(np.arange(0, count, -(-count // _SAMPLE))))
    small, lengths = np.empty((count, axes.shape[1]), np.float32), np.empty(count, np.float32)
    for start in range(0, count, _AT_ONCE):
        block = np.arange(start, min(count, start + _AT_ONCE))
        vectors, lengths[block] = neighbours.standardised(scaled.gather(block), *scaled.scale)
        projected = vectors @ axes
        projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), _SMALLEST)
        small[block] = projected
    return small, lengths


def _axes(sample: np.ndarray) -> np.ndarray:
    """Return the directions in which vectors [n, D] differ most, float32 [D, d]."""
    sample = sample - sample.mean(axis=0)
    axes: np.ndarray = np.linalg.eigh(sample.T @ sample)[1][:, -_COMPONENTS:]
    return axes
