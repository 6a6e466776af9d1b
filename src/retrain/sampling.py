"""All random draws of a training, made from its seed before the first step.

Batches are drawn as the original `retrain.py` draws them: a class uniformly, then one of its images uniformly, both
with replacement. Knowing them beforehand tells which bottlenecks will be needed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """All random draws of a training, and when to evaluate.

    `batches` int64 [S, B] and `validation` int64 [E, V] are indices of examples, V = 0 without validation images,
    and one row stands for all where every evaluation takes the whole split. `evaluated` int64 [E] are the steps
    after which to evaluate, the last step among them.
    """

    batches: np.ndarray
    validation: np.ndarray
    evaluated: np.ndarray


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
) -> Plan:
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
    """
    rng = np.random.default_rng(seed)
    evaluated = np.unique(np.append(np.arange(0, steps, eval_step_interval), steps - 1))
    return Plan(
        _draw(rng, labels, training, steps, batch_size),
        _draw(rng, labels, validation, len(evaluated), validation_batch_size),
        evaluated,
    )


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
