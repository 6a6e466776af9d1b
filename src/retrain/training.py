"""The head: a softmax layer on bottlenecks `float32 [N, D]`, trained for N steps; arrays in, arrays out.

All draws are made before the first step (`sampling`), so that the bottlenecks that will be needed are known, are
gathered in few passes, and the steps between two reports run inside one compiled call.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.errors import TrainingError
from retrain.sampling import Plan

SHARED_BYTES = 64 * 2**20  # as many bottlenecks as this are gathered once for all steps
PART_BYTES = 28 * 2**20  # of more, so many at a time; blocks from 32 MB on come fresh from the kernel, page by page
STATISTICS_EXAMPLES = 16_384  # mean and deviation of so many draws are exact to a hundredth of a deviation
_STATISTICS_AT_ONCE = 1024
_LEAST_VARIANCE = 1e-3  # added to each dimension's variance, as a share of the mean one
_LEAST_DEVIATION = 1e-4  # of each dimension, as a share of its mean: float32 tells no less after a few sums
_REPORTS = 20  # compiled calls a training is divided into

Gather = Callable[[np.ndarray], np.ndarray]  # int64 [n] indices of examples -> float32 [n, D]


@dataclass(frozen=True)
class Head:
    """A softmax layer: probabilities = softmax(bottlenecks @ weights + biases).

    `weights` float32 [D, C], `biases` float32 [C]; the standardisation of the bottlenecks is folded into both.
    """

    weights: np.ndarray
    biases: np.ndarray

    def logits(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return float32 [N, C], unnormalised, for bottlenecks float32 [N, D]."""
        logits: np.ndarray = bottlenecks @ self.weights + self.biases
        return logits

    def probabilities(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Return float32 [N, C], rows that sum to 1, for bottlenecks float32 [N, D]."""
        return softmax(self.logits(bottlenecks))


@dataclass(frozen=True)
class Segment:
    """What happened in one compiled call, for reports.

    `steps` int64 [S] and the training batch's `accuracy` and `cross_entropy`, float32 [S], before each update.
    At the steps `evaluated` int64 [E], after the update: the same of the training batch (`train_*`) and of a
    validation batch (`validation_*`, NaN without validation images), float32 [E]. `head` is what the segment
    ended with, `batch` float32 [B, D] the bottlenecks of its last step.
    """

    steps: np.ndarray
    accuracy: np.ndarray
    cross_entropy: np.ndarray
    evaluated: np.ndarray
    train_accuracy: np.ndarray
    train_cross_entropy: np.ndarray
    validation_accuracy: np.ndarray
    validation_cross_entropy: np.ndarray
    head: Head
    batch: np.ndarray


def train(
    gather: Gather,
    labels: np.ndarray,
    training: np.ndarray,
    drawn: Plan,
    *,
    class_count: int,
    learning_rate: float,
    seed: int,
    report: Callable[[Segment], None] = lambda segment: None,
) -> Head:
    """Return the trained head.

    The weights start at zero, as in "Big Transfer" (Kolesnikov et al., 2020): a linear head on standardised
    features needs no random start, and its first loss is ln(C).

    Args:
        gather: Gives bottlenecks.
        labels: int64 [N], class ids of all examples.
        training: int64 [T], indices of the training examples, for the standardisation.
        drawn: From `sampling.plan`.
        class_count: C.
        learning_rate: Of plain gradient descent on the mean softmax cross-entropy.
        seed: Chooses the examples for the standardisation where there are more than `STATISTICS_EXAMPLES`.
        report: Called after each compiled call.

    Raises:
        TrainingError: The weights grew beyond all numbers.
    """
    import tensorflow as tf

    scale = _standardisation(gather, training, seed)
    parts = _parts(drawn, row_bytes=4 * len(scale.mean))
    shared = parts[0].examples is not None
    run = _compiled_steps(shared=shared)
    constants = [tf.constant(values) for values in (scale.mean, 1 / scale.deviation**2, np.float32(learning_rate))]
    weights, biases = tf.zeros([class_count, len(scale.mean)]), tf.zeros([class_count])
    for part, vectors, held_out in _gathered(parts, gather, scale):
        indices = [part.batches, part.validation, part.ends]
        truths = [labels[part.drawn], labels[part.held_out]]
        weights, biases, per_step, per_evaluation = run(
            weights, biases, vectors, held_out, *map(tf.constant, indices + truths), *constants
        )
        raw = scale.folded if shared else Head
        head = raw(np.ascontiguousarray(weights.numpy().T), biases.numpy())
        if not (np.isfinite(head.weights).all() and np.isfinite(head.biases).all()):
            raise TrainingError(
                f"the training diverged before step {part.first + len(part.drawn)}: its weights are no numbers any "
                f"more. Try a smaller --learning_rate than {learning_rate:g}."
            )
        batch = gather(part.drawn[-1]) if shared else vectors[-1].numpy()
        report(_segment(part, per_step.numpy(), per_evaluation.numpy(), head, batch))
    return head


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities float32 [N, C], rows that sum to 1, for logits float32 [N, C]."""
    probabilities: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class _Standardisation:
    """The mean and deviation of each bottleneck dimension, float32 [D]."""

    mean: np.ndarray
    deviation: np.ndarray

    def standardised(self, vectors: np.ndarray) -> np.ndarray:
        """Return (vectors - mean) / deviation, in the memory of `vectors`."""
        vectors -= self.mean
        vectors /= self.deviation
        return vectors

    def folded(self, weights: np.ndarray, biases: np.ndarray) -> Head:
        """Return the head that does on raw bottlenecks what weights [D, C] and biases do on standardised ones."""
        own = weights / self.deviation[:, None]
        return Head(own, biases - self.mean @ own)


@dataclass(frozen=True)
class _Part:
    """The steps of one compiled call.

    `drawn` int64 [S, B] and `held_out` int64 [E or 1, V] are the examples of the steps and of the evaluations, each
    of which ends before step `ends`. Either all parts share the bottlenecks of `examples`, standardised, and `batches`
    and `validation` are places in it; or `examples` is None, and raw bottlenecks come in the order of the steps.
    """

    first: int
    drawn: np.ndarray
    held_out: np.ndarray
    ends: np.ndarray
    examples: np.ndarray | None
    batches: np.ndarray
    validation: np.ndarray


def _standardisation(gather: Gather, training: np.ndarray, seed: int) -> _Standardisation:
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
    return _Standardisation(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))


def _parts(drawn: Plan, *, row_bytes: int) -> list[_Part]:
    """Return the training in parts of whole evaluations.

    Where all bottlenecks that are needed fit `SHARED_BYTES`, the parts share them; otherwise each needs about
    `PART_BYTES` of its own, or what one evaluation takes.
    """
    examples: np.ndarray | None = _distinct(drawn.batches, drawn.validation)
    calls = _REPORTS
    if examples is not None and len(examples) * row_bytes > SHARED_BYTES:
        examples = None
        calls = max(_REPORTS, -(-(drawn.batches.size + drawn.validation.size) * row_bytes // PART_BYTES))
    each = max(1, len(drawn.evaluated) // calls)
    count, stops = len(drawn.evaluated), np.searchsorted(drawn.evaluated, drawn.stops) + 1
    edges = np.unique(np.concatenate([np.arange(0, count, each), stops, [count]])).tolist()
    parts = []
    for start, end in itertools.pairwise(edges):
        evaluated = drawn.evaluated[start:end]
        first = 0 if start == 0 else int(drawn.evaluated[start - 1]) + 1
        steps = drawn.batches[first : int(evaluated[-1]) + 1]
        held_out = drawn.validation[start:end] if len(drawn.validation) > 1 else drawn.validation
        parts.append(
            _Part(
                first,
                steps,
                held_out,
                (evaluated - first + 1).astype(np.int32),
                examples,
                _places(examples, steps),
                _places(examples, held_out),
            )
        )
    return parts


def _distinct(*drawn: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of arrays of small whole numbers, without sorting millions of them."""
    seen = np.zeros(1 + max((int(array.max()) for array in drawn if array.size), default=-1), bool)
    for array in drawn:
        seen[array] = True
    return np.flatnonzero(seen)


def _places(examples: np.ndarray | None, drawn: np.ndarray) -> np.ndarray:
    """Return where `drawn` stands in sorted `examples`, int32; without them nothing needs a place."""
    if examples is None:
        return np.zeros((len(drawn), 0), np.int32)
    return np.searchsorted(examples, drawn).astype(np.int32)


def _gathered(parts: Sequence[_Part], gather: Gather, scale: _Standardisation) -> Iterator[tuple[_Part, Any, Any]]:
    """Yield each part with the bottlenecks of its steps and of its evaluations; the next are gathered meanwhile."""
    import tensorflow as tf

    def tensor(examples: np.ndarray) -> Any:
        return tf.constant(gather(examples.ravel()).reshape(*examples.shape, -1))

    if parts[0].examples is not None:
        vectors = tf.constant(scale.standardised(gather(parts[0].examples)))
        yield from ((part, vectors, vectors) for part in parts)
        return
    same = tensor(parts[0].held_out) if parts[0].held_out is parts[-1].held_out else None
    with ThreadPoolExecutor(1) as ahead:

        def submit(part: _Part) -> Future[tuple[Any, Any]]:
            return ahead.submit(lambda: (tensor(part.drawn), tensor(part.held_out) if same is None else same))

        waiting = submit(parts[0])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            ready = waiting.result()
            if following is not None:
                waiting = submit(following)
            yield part, *ready


def _segment(part: _Part, per_step: np.ndarray, per_evaluation: np.ndarray, head: Head, batch: np.ndarray) -> Segment:
    return Segment(
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


def _compiled_steps(*, shared: bool) -> Any:
    """Return the compiled loop over steps and evaluations; `shared` as in `_Part`.

    Plain gradient descent on standardised bottlenecks, in as few operations as it takes: starting one costs more than
    computing it. Bottlenecks that are not shared stay raw, since rewriting gigabytes takes longer than the steps:
    with x' = (x - mean) / deviation and w' = w * deviation, a step of w' is the step g (x - mean) / variance of w.
    The weights are [C, D], along the rows of the bottlenecks, which both products read faster.
    """
    import tensorflow as tf

    def fetched(vectors: Any, places: Any, number: Any) -> Any:
        return tf.gather(vectors, places[number]) if shared else vectors[number]

    def losses_of(logits: Any, truths: Any) -> Any:
        return tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=truths)

    def measured(logits: Any, truths: Any) -> Any:
        right = tf.cast(tf.equal(tf.argmax(logits, axis=1), truths), tf.float32)
        return tf.stack([tf.reduce_mean(right), tf.reduce_mean(losses_of(logits, truths)[0])])

    def run(
        weights: Any,
        biases: Any,
        vectors: Any,
        held_out: Any,
        batches: Any,
        validation: Any,
        ends: Any,
        truths: Any,
        held_out_truths: Any,
        mean: Any,
        inverse_variance: Any,
        rate: Any,
    ) -> Any:
        guessed = tf.TensorArray(tf.int64, tf.shape(truths)[0])
        losses = tf.TensorArray(tf.float32, tf.shape(truths)[0])
        per_evaluation = tf.TensorArray(tf.float32, tf.shape(ends)[0])
        downhill = -rate / tf.cast(tf.shape(truths)[1], tf.float32)
        column = tf.expand_dims(mean, 1)
        step = tf.constant(0)
        for evaluation in tf.range(tf.shape(ends)[0]):
            while step < ends[evaluation]:
                bottlenecks = fetched(vectors, batches, step)
                logits = tf.matmul(bottlenecks, weights, transpose_b=True) + biases
                loss, surplus = losses_of(logits, truths[step])
                guessed = guessed.write(step, tf.argmax(logits, axis=1))
                losses = losses.write(step, loss)
                surplus *= downhill
                total = tf.reduce_sum(surplus, axis=0)
                change = tf.matmul(surplus, bottlenecks, transpose_a=True)
                if not shared:
                    change = (change - tf.expand_dims(total, 1) * mean) * inverse_variance
                    total -= tf.squeeze(tf.matmul(change, column), 1)
                weights += change
                biases += total
                step += 1
            row = evaluation % tf.shape(held_out_truths)[0]
            pairs = (
                (fetched(vectors, batches, step - 1), truths[step - 1]),
                (fetched(held_out, validation, row), held_out_truths[row]),
            )
            results = [measured(tf.matmul(x, weights, transpose_b=True) + biases, y) for x, y in pairs]
            per_evaluation = per_evaluation.write(evaluation, tf.concat(results, axis=0))
        right = tf.cast(tf.equal(guessed.stack(), truths), tf.float32)
        per_step = tf.stack([tf.reduce_mean(right, axis=1), tf.reduce_mean(losses.stack(), axis=1)], axis=1)
        return weights, biases, per_step, per_evaluation.stack()

    def spec(rank: int, kind: Any) -> Any:
        return tf.TensorSpec([None] * rank, kind)

    real, place, class_id = tf.float32, tf.int32, tf.int64
    rank = 2 if shared else 3
    signature = [spec(2, real), spec(1, real), spec(rank, real), spec(rank, real), spec(2, place), spec(2, place)]
    signature += [spec(1, place), spec(2, class_id), spec(2, class_id), spec(1, real), spec(1, real), spec(0, real)]
    return tf.function(run, input_signature=signature)
