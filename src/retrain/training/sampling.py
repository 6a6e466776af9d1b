"""All random draws of a training, made from its seed before the first step.

Batches are sampled as the original `retrain.py` samples them: a class uniformly, then one of its images uniformly,
both with replacement. Knowing them beforehand tells which bottlenecks will be needed.
"""

from dataclasses import dataclass

import numpy as np

from retrain.training.recipe import TrainingPlan


@dataclass(frozen=True)
class SamplingPlan:
    """The examples of every step and evaluation.

    `batches` int64 [S, B] and `validation` int64 [E, V] are indices of examples, V = 0 without validation images,
    and one row stands for all where every evaluation uses the whole split. `evaluation_steps` int64 [E] are the steps
    after which to evaluate, the last step among them; `checkpoint_steps` int64 [K], some of them, those whose head is
    wanted.
    """

    batches: np.ndarray
    validation: np.ndarray
    evaluation_steps: np.ndarray
    checkpoint_steps: np.ndarray


def sample_training(
    labels: np.ndarray, training: np.ndarray, validation: np.ndarray, plan: TrainingPlan
) -> SamplingPlan:
    """Return the examples of every step and evaluation, which follow from the plan's seed alone.

    Args:
        labels: int64 [N], class ids of all examples.
        training: int64 [T], indices of the training examples.
        validation: int64 [V], indices of the validation examples, possibly none.
        plan: Numbers of steps and examples.
    """
    rng = np.random.default_rng(plan.seed)
    every = plan.checkpoint_every
    checkpoints = np.arange(every, plan.steps, every) if every else np.zeros(0, np.int64)
    regular = np.arange(0, plan.steps, plan.eval_step_interval)
    evaluations = np.unique(np.concatenate([regular, checkpoints, [plan.steps - 1]]))
    return SamplingPlan(
        sample_batches(rng, labels, training, (plan.steps, plan.batch_size)),
        sample_batches(rng, labels, validation, (len(evaluations), plan.validation_batch_size)),
        evaluations,
        checkpoints,
    )


def sample(labels: np.ndarray, pool: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Return int64 [size] of `pool`, sampled as a batch is; all of it, each once, for -1."""
    batch: np.ndarray = sample_batches(np.random.default_rng(seed), labels, pool, (1, size))[0]
    return batch


def sample_batches(
    rng: np.random.Generator, labels: np.ndarray, pool: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return int64 [S, B] of `pool`, a class uniformly and then one of its members; all of it, once, for B = -1."""
    if not len(pool):
        return np.zeros((shape[0], 0), np.int64)
    if shape[1] < 0:
        return pool[None, :]
    of_pool = labels[pool]
    if (of_pool[1:] < of_pool[:-1]).any():  # never so of millions of photos, which are listed class by class
        pool = pool[np.argsort(of_pool, kind="stable")]
    counts = np.bincount(of_pool)
    counts = counts[counts > 0]
    starts = np.cumsum(counts) - counts
    classes = rng.integers(len(starts), size=shape)
    within = (rng.random(shape) * counts[classes]).astype(np.int64)
    batches: np.ndarray = pool[starts[classes] + within]
    return batches
