"""Trains a head on bottlenecks `float32 [N, D]` for N steps; arrays in, arrays out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.errors import TrainingError
from retrain.head import Head, Standardisation
from retrain.history import FIGURES, ChunkResult, Evaluation, History
from retrain.stopping import is_over, share_of_time
from retrain.training import held_out
from retrain.training.chunks import Chunk, into_chunks, with_bottlenecks
from retrain.training.gradient_descent import SgdTrainer
from retrain.training.held_out import HeldOut
from retrain.training.optimizers import OptimizerTrainer
from retrain.training.recipe import HeadRecipe, TrainingPlan, divergence
from retrain.training.sampling import SamplingPlan

STATISTICS_EXAMPLES = 16_384  # mean and deviation of so many draws are exact to a hundredth of a deviation
NUMPY_WEIGHTS = 2**16  # of larger heads, TensorFlow's threads multiply faster than one
_STATISTICS_AT_ONCE = 1024
_PRIOR_VARIANCE = 0.2  # of the weights of standardised features, times the square root of their number
_LEAST_VARIANCE = 1e-3  # added to each dimension's variance, as a share of the mean one
_LEAST_DEVIATION = 1e-4  # of each dimension, as a share of its mean: float32 resolves no less after a few sums


@dataclass(frozen=True)
class TrainingData:
    """Bottlenecks and labels: `labels` int64 [N] are class ids of all examples, `training` int64 [T] their indices."""

    gather: Gather
    labels: np.ndarray
    training: np.ndarray
    class_count: int


@dataclass(frozen=True)
class TrainedHead:
    """A trained head, the step whose weights it has, and how bottlenecks were scaled for it.

    `history` are all evaluations, the last one after the last step that was trained.
    """

    head: Head
    step: int
    scale: Standardisation
    history: Sequence[Evaluation] = ()


def train(
    data: TrainingData,
    samples: SamplingPlan,
    recipe: HeadRecipe,
    plan: TrainingPlan,
    *,
    report: Callable[[ChunkResult], None] = lambda result: None,
    deadline: float | None = None,
) -> TrainedHead:
    """Return the trained head.

    The last layer starts at zero: its first loss is ln(C).

    Args:
        data: Bottlenecks and labels; those of `training` decide the standardisation.
        samples: From `sampling.sample_training`.
        recipe: The head and its optimizer.
        plan: Seed and patience. The seed also decides hidden layers and dropout, and the examples for the
            standardisation where there are more than `STATISTICS_EXAMPLES`.
        report: Called after each chunk of steps.
        deadline: A moment of `time.monotonic()`: the first evaluation after it is the last, and a learning rate that
            falls does so by then. None for as long as all steps take.

    Raises:
        TrainingError: The weights are no longer finite, or there is nothing to validate on for `patience`.
    """
    if plan.patience is not None and not samples.validation.size:
        raise TrainingError("--early_stopping_patience needs validation images, and there are none.")
    if plan.patience is not None or deadline is not None:  # weights are kept, and trainings end, where a chunk ends
        samples = replace(samples, checkpoint_steps=samples.evaluation_steps)
    training, chunks = _begin(data, samples, recipe, plan)
    trainer, scale, history = training.trainer, training.scale, History(plan.patience)
    kept, began = TrainedHead(trainer.head(), 0, scale), time.monotonic()
    for chunk, *bottlenecks in with_bottlenecks(chunks, data.gather, scale, trainer.convert):
        if deadline is not None:
            trainer.skip_to(int(share_of_time(began, deadline) * plan.steps))
        result = training.run(chunk, *bottlenecks)
        report(result)
        is_best = any([history.add(row) for row in result.evaluations][-1:])
        if is_best or plan.patience is None:
            kept = TrainedHead(result.head, chunk.last_step, scale)
        if history.should_stop or (is_over(deadline) and result.evaluations):
            break
    return replace(kept, history=history.evaluations)


@dataclass(frozen=True)
class _Training:
    """What the steps of a training need; `apart` measures validation images of which a chunk cannot hold all."""

    trainer: SgdTrainer | OptimizerTrainer
    data: TrainingData
    scale: Standardisation
    apart: HeldOut | None
    learning_rate: float

    def run(self, chunk: Chunk, vectors: Any, validation: Any) -> ChunkResult:
        """Return what a chunk's steps gave, on the bottlenecks of its steps and of its evaluations.

        Raises:
            TrainingError: The weights or figures are no longer finite.
        """
        per_step, per_evaluation = self.trainer.run(chunk, vectors, validation, self.data.labels)
        head, count, apart = self.trainer.head(), chunk.validation.shape[1], self.apart
        if apart is not None and len(per_evaluation):  # which is one, after the last step
            count, measured = apart.count, apart.measure(head, chunk.last_step, self.data.gather, self.data.labels)
            per_evaluation = np.concatenate([per_evaluation[:, :2], np.array([measured], np.float32)], axis=1)
        if not (head.is_finite() and _are_finite(per_step, per_evaluation, validated=count > 0)):
            raise divergence("training", chunk.last_step, "--learning_rate", self.learning_rate)
        is_shared = chunk.examples is not None  # standardised, and not in the order of the steps
        batch = self.data.gather(chunk.batches[-1]) if is_shared else np.asarray(vectors[-1])
        series = {"accuracy": per_step[:, 0], "cross_entropy": per_step[:, 1]}
        steps = chunk.first_step + np.arange(len(chunk.batches))
        return ChunkResult(steps, series, _evaluations(chunk, per_evaluation, count), head, batch)


def _begin(
    data: TrainingData, samples: SamplingPlan, recipe: HeadRecipe, plan: TrainingPlan
) -> tuple[_Training, Sequence[Chunk]]:
    """Return a training before its first step, and its steps in chunks."""
    scale = _standardisation(data.gather, data.training, plan.seed)
    dimension, row_bytes = len(scale.mean), scale.mean.nbytes
    samples, apart = held_out.apart(samples, row_bytes=row_bytes)
    chunks = into_chunks(samples, row_bytes=row_bytes)
    recipe = replace(recipe, l2=shrinkage(recipe, dimension, len(data.training)))
    shared = chunks[0].examples is not None
    trainer = _trainer(scale, recipe, plan, class_count=data.class_count, shared=shared)
    return _Training(trainer, data, scale, apart, recipe.learning_rate), chunks


def _are_finite(per_step: np.ndarray, per_evaluation: np.ndarray, *, validated: bool) -> bool:
    """Return whether a chunk's figures are finite: finite weights may still give logits that are not."""
    figures = per_evaluation if validated else per_evaluation[:, :2]  # without validation images the others are NaN
    return bool(np.isfinite(per_step).all() and np.isfinite(figures).all())


def needs_no_tensorflow(recipe: HeadRecipe, weights: int) -> bool:
    """Return whether numpy trains a head, whose last layer on bottlenecks would have so many weights."""
    return recipe.is_plain_sgd and weights <= NUMPY_WEIGHTS


def shrinkage(recipe: HeadRecipe, dimension: int, examples: int) -> float:
    """Return the factor of the squared weights in the loss: the recipe's, or what suits a head of one layer.

    Its weights are taken to come from a normal distribution, as in ridge regression: the more examples there are, the
    less that counts. The variance, C of scikit-learn's `LogisticRegression`, is `_PRIOR_VARIANCE` over the root of the
    dimension, which `scripts/linear_probe.py` found good from 256 to 2048 features. No step takes more than half of a
    weight, however large its rate. Hidden layers are left alone.
    """
    if recipe.l2 is not None:
        return recipe.l2
    if recipe.hidden_units:
        return 0.0
    return min(math.sqrt(dimension) / (2 * _PRIOR_VARIANCE * examples), 1 / (4 * recipe.learning_rate))


def _trainer(
    scale: Standardisation, recipe: HeadRecipe, plan: TrainingPlan, *, class_count: int, shared: bool
) -> SgdTrainer | OptimizerTrainer:
    if needs_no_tensorflow(recipe, class_count * len(scale.mean)):
        l2 = recipe.l2 or 0.0
        return SgdTrainer(scale, class_count=class_count, learning_rate=recipe.learning_rate, l2=l2)
    return OptimizerTrainer(scale, recipe, class_count=class_count, shared=shared, steps=plan.steps, seed=plan.seed)


def _evaluations(chunk: Chunk, figures: np.ndarray, count: int) -> list[Evaluation]:
    """Return the evaluations of a chunk on `count` validation examples each, from their figures, float32 [E, 4]."""
    steps = chunk.first_step + chunk.evaluated_after - 1
    return [
        Evaluation(step, **dict(zip(FIGURES, row, strict=True)), validation_count=count)
        for step, row in zip(steps.tolist(), figures.tolist(), strict=True)
    ]


def _standardisation(gather: Gather, training: np.ndarray, seed: int) -> Standardisation:
    if len(training) > STATISTICS_EXAMPLES:
        chosen = np.random.default_rng(seed).integers(len(training), size=STATISTICS_EXAMPLES)
        training = training[np.sort(chosen)]
    sums = squares = np.zeros(0)
    for start in range(0, len(training), _STATISTICS_AT_ONCE):
        vectors = gather(training[start : start + _STATISTICS_AT_ONCE]).astype(np.float64)
        if not start:
            shift = vectors.mean(axis=0)  # keeps the difference of large squares exact
            sums = squares = np.zeros(vectors.shape[1])
        vectors -= shift
        sums = sums + vectors.sum(axis=0)
        squares = squares + np.einsum("nd,nd->d", vectors, vectors)
    variance = np.maximum(squares / len(training) - (sums / len(training)) ** 2, 0)
    mean = shift + sums / len(training)
    # A dimension that hardly changes, beside the others or beside its own mean, carries rounding errors: do not blow
    # them up to the size of a feature.
    variance += _LEAST_VARIANCE * variance.mean() + (_LEAST_DEVIATION * mean) ** 2
    variance[variance == 0] = 1.0
    return Standardisation(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))
