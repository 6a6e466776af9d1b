"""All random draws of a training, made from its seed before the first step.

Batches are drawn as the original `retrain.py` draws them: a class uniformly, then one of its images uniformly, both
with replacement. Knowing them beforehand tells which bottlenecks will be needed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SamplingPlan:
    """All random draws of a training, and when to evaluate.

    `batches` int64 [S, B] and `validation` int64 [E, V] are indices of examples, V = 0 without validation images,
    and one row stands for all where every evaluation takes the whole split. `evaluated` int64 [E] are the steps
    after which to evaluate, the last step among them; `stops` int64 [K], some of them, those whose head is wanted.
    """

    batches: np.ndarray
    validation: np.ndarray
    evaluated: np.ndarray
    stops: np.ndarray


def plan(
    labels: np.ndarray,
    training: np.ndarray,
    validation: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    validation_batch_size: int,
    eval_step_interval: int,
    seed: int,
    stop_every: int = 0,
) -> SamplingPlan:
    """Return what a training will draw, from `seed` alone.

    Args:
        labels: int64 [N], class ids of all examples.
        training: int64 [T], indices of the training examples.
        validation: int64 [V], indices of the validation examples, possibly none.
        steps: Steps to train.
        batch_size: Examples a step.
        validation_batch_size: Examples an evaluation; -1 for all of them, each once.
        eval_step_interval: Steps from one evaluation to the next; the first and the last step have one too.
        seed: What the draws follow from.
        stop_every: Steps from one wanted head to the next, after each of which there is an evaluation too; 0 for none.
    """
    rng = np.random.default_rng(seed)
    stops = np.arange(stop_every, steps, stop_every) if stop_every else np.zeros(0, np.int64)
    evaluated = np.unique(np.concatenate([np.arange(0, steps, eval_step_interval), stops, [steps - 1]]))
    return SamplingPlan(
        _draw(rng, labels, training, steps, batch_size),
        _draw(rng, labels, validation, len(evaluated), validation_batch_size),
        evaluated,
        stops,
    )


def sample(labels: np.ndarray, pool: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Return int64 [size] of `pool`, drawn as a batch is; all of it, each once, for -1."""
    sampled: np.ndarray = _draw(np.random.default_rng(seed), labels, pool, 1, size)[0]
    return sampled


def _draw(rng: np.random.Generator, labels: np.ndarray, pool: np.ndarray, times: int, size: int) -> np.ndarray:
    """Return int64 [times, size] of `pool`, a class uniformly and then one of its members; all of it for -1."""
    if not len(pool):
        return np.zeros((times, 0), np.int64)
    if size < 0:
        return pool[None, :]
    by_class = pool[np.argsort(labels[pool], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    classes = rng.integers(len(starts), size=(times, size))
    within = (rng.random((times, size)) * counts[classes]).astype(np.int64)
    drawn: np.ndarray = by_class[starts[classes] + within]
    return drawn
