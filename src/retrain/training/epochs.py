"""Batches by epochs: every photo once in each, in an order of its own, computed when a batch is asked for."""

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpochBatches:
    """The batches of a training that has no last step.

    The epochs follow each other without a gap, so that all batches have the same size: a batch may begin in one and
    end in the next. Each follows from the seed and its number alone: a training that is resumed goes on identically.
    """

    count: int
    size: int
    seed: int

    def __call__(self, step: int) -> np.ndarray:
        """Return the photos of a step, int64 [size], numbers below `count`."""
        first = step * self.size
        epochs = range(first // self.count, (first + self.size - 1) // self.count + 1)
        orders = np.concatenate([_order(self.count, self.seed, epoch) for epoch in epochs])
        start = first - epochs[0] * self.count
        return orders[start : start + self.size]


@functools.lru_cache(2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the photos in an epoch, int64 [count]."""
    return np.random.default_rng([seed, epoch]).permutation(count)
