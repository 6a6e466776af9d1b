"""The training photos nearest to some photos: the largest cosines of standardised bottlenecks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.head import multiply

NEAREST = 3
_AT_ONCE = 512  # rows of a block, which stay in the processor's cache: whatever their number, the memory is the same
_MEASURED = 8192  # rows that mean and deviation are taken from, evenly spread: more change neither
DIGITS = 5  # of cosines that are compared: further ones depend on how many are multiplied at once
_SMALLEST = 1e-6  # deviation, and length


@dataclass(frozen=True)
class Nearest:
    """The nearest rows: `places` int64 [n, k] among those asked for, nearest first, and `similarity` float32 [n, k]."""

    places: np.ndarray
    similarity: np.ndarray


def nearest(
    read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, vectors: np.ndarray, *, count: int = NEAREST
) -> Nearest:
    """Return the rows whose bottlenecks are nearest to some vectors.

    Equally near ones are in the order of `rows`.

    Args:
        read: Returns the bottlenecks float32 [m, D] of indices int64 [m].
        rows: int64 [N], the indices to look among.
        vectors: float32 [n, D], raw bottlenecks.
        count: How many of each, fewer where there are fewer rows.
    """
    mean, deviation = scale_of(read, rows)
    wanted, lengths = standardised(vectors, mean, deviation)
    wanted /= lengths[:, None]
    count = min(count, len(rows))
    best = np.full((len(vectors), 0), -np.inf, np.float32)
    places = np.zeros((len(vectors), 0), np.int64)
    for start in range(0, len(rows), _AT_ONCE):
        block, lengths = standardised(read(rows[start : start + _AT_ONCE]), mean, deviation)
        similarity = np.empty((len(wanted), len(block)), np.float32)
        multiply(wanted, block.T, out=similarity)
        # The last digits of a product depend on how many there are at once.
        similarity = np.round(similarity / lengths, DIGITS)
        found, where = largest(similarity, count)
        best, places = np.concatenate([best, found], axis=1), np.concatenate([places, where + start], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, places = np.take_along_axis(best, order, axis=1), np.take_along_axis(places, order, axis=1)
    return Nearest(places, np.clip(best, -1, 1))


def packed(found: Nearest) -> list[bytes]:
    """Return the result of each vector as bytes to keep."""
    pairs = zip(found.places, found.similarity, strict=True)
    return [places.astype("<i8").tobytes() + similarity.astype("<f4").tobytes() for places, similarity in pairs]


def unpacked(kept: Sequence[bytes]) -> Nearest:
    """Return results, one or more, from what `packed` made of them."""
    count = len(kept[0]) // 12
    places = [np.frombuffer(data, "<i8", count) for data in kept]
    similarity = [np.frombuffer(data, "<f4", count, offset=8 * count) for data in kept]
    return Nearest(np.array(places, np.int64), np.array(similarity, np.float32))


def scale_of(read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each dimension, float32 [D]."""
    vectors = read(rows[:: -(-len(rows) // _MEASURED)])
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    return mean, np.where(deviation > _SMALLEST, deviation, np.float32(1)).astype(np.float32)


def standardised(vectors: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised vectors float32 [n, D] and their lengths float32 [n], above 0."""
    scaled = vectors - mean
    scaled *= 1 / deviation
    lengths = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))
    return scaled, np.maximum(lengths, np.float32(_SMALLEST))


def largest(similarity: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest values of each row and their places, the first of equal ones first."""
    left, rows = similarity.copy(), np.arange(len(similarity))
    found = []
    for _ in range(min(count, similarity.shape[1])):  # which is faster than to sort
        found.append(left.argmax(axis=1))
        left[rows, found[-1]] = -np.inf
    places = np.stack(found, axis=1)
    return np.take_along_axis(similarity, places, axis=1), places
