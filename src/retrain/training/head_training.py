"""Trains a head on bottlenecks `float32 [N, D]` for N steps; arrays in, arrays out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.errors import TrainingError
from retrain.head import Head, Standardisation
from retrain.history import ChunkResult
from retrain.training.chunks import Chunk, into_chunks, with_bottlenecks
from retrain.training.gradient_descent import SgdTrainer
from retrain.training.optimizers import OptimizerTrainer
from retrain.training.recipe import HeadRecipe
from retrain.training.sampling import SamplingPlan

STATISTICS_EXAMPLES = 16_384  # mean and deviation of so many draws are exact to a hundredth of a deviation
_STATISTICS_AT_ONCE = 1024
_LEAST_VARIANCE = 1e-3  # added to each dimension's variance, as a share of the mean one
_LEAST_DEVIATION = 1e-4  # of each dimension, as a share of its mean: float32 tells no less after a few sums


@dataclass(frozen=True)
class TrainedHead:
    """A trained head, the step whose weights it has, the last step that was taken, and how bottlenecks were scaled.

    `validation_accuracy` is that of `step` where early stopping chose it, None otherwise.
    """

    head: Head
    step: int
    last: int
    scale: Standardisation
    validation_accuracy: float | None = None


def train(
    gather: Gather,
    labels: np.ndarray,
    training: np.ndarray,
    drawn: SamplingPlan,
    *,
    class_count: int,
    recipe: HeadRecipe,
    seed: int,
    patience: int | None = None,
    report: Callable[[ChunkResult], None] = lambda segment: None,
) -> TrainedHead:
    """Return the trained head.

    The last layer starts at zero: its first loss is ln(C).

    Args:
        gather: Gives bottlenecks.
        labels: int64 [N], class ids of all examples.
        training: int64 [T], indices of the training examples, for the standardisation.
        drawn: From `sampling.plan`.
        class_count: C.
        recipe: What to train, and how.
        seed: Draws hidden layers and dropout, and the examples for the standardisation where there are more than
            `STATISTICS_EXAMPLES`.
        patience: Stop after so many evaluations without a better one, and keep the weights of the best: the most
            accurate on validation images, or of equal ones that with the smaller cross-entropy. None to go on.
        report: Called after each compiled call.

    Raises:
        TrainingError: The weights grew beyond all numbers, or there is nothing to validate on for `patience`.
    """
    if patience is not None and not drawn.validation.size:
        raise TrainingError("--early_stopping_patience needs validation images, and there are none.")
    if patience is not None:
        drawn = replace(drawn, stops=drawn.evaluated)  # weights can be kept where a compiled call ends
    scale = _standardisation(gather, training, seed)
    parts = into_chunks(drawn, row_bytes=4 * len(scale.mean))
    shared = parts[0].examples is not None
    steps: SgdTrainer | OptimizerTrainer
    if recipe.plain:
        steps = SgdTrainer(scale, class_count=class_count, learning_rate=recipe.learning_rate, shared=shared)
    else:
        steps = OptimizerTrainer(
            scale, recipe, class_count=class_count, shared=shared, steps=len(drawn.batches), seed=seed
        )
    best: tuple[float, float] | None = None
    kept = TrainedHead(steps.head(), 0, 0, scale)
    waited = 0
    for part, vectors, held_out in with_bottlenecks(parts, gather, scale):
        per_step, per_evaluation = steps.run(part, vectors, held_out, labels)
        head = steps.head()
        last = part.first + len(part.drawn) - 1
        if not head.is_finite():
            raise TrainingError(
                f"the training diverged before step {last + 1}: its weights are no numbers any "
                f"more. Try a smaller --learning_rate than {recipe.learning_rate:g}."
            )
        batch = gather(part.drawn[-1]) if shared else vectors[-1].numpy()
        report(_segment(part, per_step, per_evaluation, head, batch))
        if patience is None:
            kept = TrainedHead(head, last, last, scale)
            continue
        accuracy, loss = (float(value) for value in per_evaluation[-1, 2:])
        if best is None or (accuracy, -loss) > best:
            best, waited, kept = (accuracy, -loss), 0, TrainedHead(head, last, last, scale, accuracy)
        else:
            waited, kept = waited + 1, replace(kept, last=last)
        if waited >= patience:
            break
    return kept


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


def _segment(
    part: Chunk, per_step: np.ndarray, per_evaluation: np.ndarray, head: Head, batch: np.ndarray
) -> ChunkResult:
    return ChunkResult(
        steps=part.first + np.arange(len(part.drawn)),
        accuracy=per_step[:, 0],
        cross_entropy=per_step[:, 1],
        evaluated=part.first + part.ends - 1,
        train_accuracy=per_evaluation[:, 0],
        train_cross_entropy=per_evaluation[:, 1],
        validation_accuracy=per_evaluation[:, 2],
        validation_cross_entropy=per_evaluation[:, 3],
        head=head,
        batch=batch,
    )
