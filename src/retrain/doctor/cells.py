"""Finds which of many vectors are likely the nearest to each: those in the cells that are nearest to its own.

An inverted file: Sivic and Zisserman, "Video Google", ICCV 2003; Jégou et al., "Product quantization for nearest
neighbor search", TPAMI 2011.
"""

import numpy as np

from retrain.doctor import threads
from retrain.evaluation import neighbours

_CELLS = 3  # times the root of the number of vectors: the smaller they are, the better they fit what is near
_NEAR = 96  # cells whose vectors those of each cell are compared with
_LEARNT_FROM, _ROUNDS = 16, 4  # vectors for each cell from which its middle is found, and steps of that
_PRODUCTS = 2**22  # at once
_AT_ONCE = 4096


def candidates(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers int64 [N, `count`] of vectors that are likely the nearest to each, which is not among them.

    Args:
        vectors: float32 [N, D] of length 1, more than `count`.
        count: How many for each.
    """
    middles = _middles(vectors)
    cell = _nearest(vectors, middles)
    sizes = np.bincount(cell, minlength=len(middles))
    members = np.split(np.argsort(cell, kind="stable"), np.cumsum(sizes)[:-1])
    beside = np.argsort(-np.round(middles @ middles.T, neighbours.DIGITS), axis=1, kind="stable")
    found = np.empty((len(vectors), count), np.int64)

    def compare(number: int) -> None:
        enough = int(np.searchsorted(np.cumsum(sizes[beside[number]]), count + 1)) + 1
        near = np.union1d(beside[number, : max(_NEAR, enough)], number)
        columns = np.sort(np.concatenate([members[each] for each in near.tolist()]))
        _compare(vectors, members[number], columns, found)

    threads.run(compare, np.flatnonzero(sizes).tolist())
    return found


def _compare(vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray, found: np.ndarray) -> None:
    """Write the numbers of the vectors nearest to some rows, out of the columns, all by ascending numbers."""
    right = vectors[columns].T
    at_once = max(1, _PRODUCTS // len(columns))
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        products = np.round(vectors[some] @ right, neighbours.DIGITS)
        products[np.arange(len(some)), np.searchsorted(columns, some)] = -np.inf
        found[some] = columns[neighbours.largest(products, found.shape[1])[1]]


def _middles(vectors: np.ndarray) -> np.ndarray:
    """Return the middles of cells, float32 [C, D] of length 1: k-means by cosine from evenly spread vectors."""
    count = int(_CELLS * len(vectors) ** 0.5)
    sample = vectors[:: max(1, len(vectors) // (_LEARNT_FROM * count))]
    middles = sample[np.arange(count) * len(sample) // count]
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, middles)
        order, counts = np.argsort(nearest, kind="stable"), np.bincount(nearest, minlength=count)
        there = np.flatnonzero(counts)
        sums = np.add.reduceat(sample[order], (np.cumsum(counts) - counts)[there], axis=0)
        middles = middles.copy()
        middles[there] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return middles


def _nearest(vectors: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return the middle that is nearest to each vector, int64 [N]."""
    blocks = range(0, len(vectors), _AT_ONCE)
    return np.concatenate([(vectors[start : start + _AT_ONCE] @ middles.T).argmax(axis=1) for start in blocks])
