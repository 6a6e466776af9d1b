"""The head: a softmax layer on bottlenecks `float32 [N, D]`, trained for N steps; arrays in, arrays out.

Batches are drawn as the original `retrain.py` draws them: a class uniformly, then one of its images uniformly,
both with replacement. All draws follow from the seed before the first step, so that the bottlenecks that will be
needed are known, are gathered in few passes, and the steps between two reports run inside one compiled call.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

SHARED_BYTES = 64 * 2**20  # as many bottlenecks as this are gathered once for all steps
PART_BYTES = 16 * 2**20  # of more, so many at a time; larger blocks come fresh from the kernel, page by page
STATISTICS_EXAMPLES = 16_384  # mean and deviation of so many vectors are exact to a hundredth of a deviation
_LEAST_VARIANCE = 1e-3  # added to each dimension's variance, as a share of the mean one
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
        drawn: From `plan`.
        class_count: C.
        learning_rate: Of plain gradient descent on the mean softmax cross-entropy.
        seed: Chooses the examples for the standardisation where there are more than `STATISTICS_EXAMPLES`.
        report: Called after each compiled call.
    """
    import tensorflow as tf

    scale = _standardisation(gather, training, seed)
    weights = tf.zeros([class_count, len(scale.mean) + 1])
    rate = tf.constant(learning_rate, tf.float32)
    run = _compiled_steps()
    for part, features in _gathered(_parts(drawn, row_bytes=4 * len(scale.mean)), gather, scale):
        weights, per_step, per_evaluation = run(
            weights,
            features,
            tf.constant(labels[part.examples]),
            tf.constant(part.batches),
            tf.constant(part.validation),
            tf.constant(part.ends),
            rate,
        )
        head = scale.folded(weights.numpy())
        batch = gather(part.examples[part.batches[-1]])
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

    def features(self, vectors: np.ndarray) -> np.ndarray:
        """Return (vectors - mean) / deviation with a column of ones behind, float32 [n, D + 1].

        The ones make the biases a row of the weights, which saves operations in every step.
        """
        features = np.empty((len(vectors), vectors.shape[1] + 1), np.float32)
        np.subtract(vectors, self.mean, out=features[:, :-1])
        features[:, :-1] *= 1 / self.deviation
        features[:, -1] = 1
        return features

    def folded(self, weights: np.ndarray) -> Head:
        """Return the head that does on raw bottlenecks what the weights [C, D + 1] do on features."""
        own = np.ascontiguousarray((weights[:, :-1] / self.deviation).T)
        return Head(own, weights[:, -1] - self.mean @ own)


@dataclass(frozen=True)
class _Part:
    """The steps of one compiled call; `batches`, `validation` index into `examples`, `ends` closes evaluations."""

    first: int
    examples: np.ndarray
    batches: np.ndarray
    validation: np.ndarray
    ends: np.ndarray


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


def _standardisation(gather: Gather, training: np.ndarray, seed: int) -> _Standardisation:
    if len(training) > STATISTICS_EXAMPLES:
        chosen = np.random.default_rng(seed).choice(training, STATISTICS_EXAMPLES, replace=False)
        training = np.sort(chosen)
    vectors = gather(training)
    mean = vectors.mean(axis=0, dtype=np.float64)
    deviation = vectors.std(axis=0, dtype=np.float64)
    # A dimension that hardly changes carries rounding errors: do not blow them up to the size of a feature.
    deviation = np.sqrt(deviation**2 + _LEAST_VARIANCE * np.mean(deviation**2))
    deviation[deviation == 0] = 1.0
    return _Standardisation(mean.astype(np.float32), deviation.astype(np.float32))


def _parts(drawn: Plan, *, row_bytes: int) -> Iterator[_Part]:
    """Yield the training in parts of whole evaluations.

    Where all bottlenecks that are needed fit `SHARED_BYTES`, the parts share one array of `examples`, which tells
    that they need no new ones; otherwise each part needs about `PART_BYTES`, or what one evaluation takes.
    """
    everything = np.union1d(drawn.batches, drawn.validation)
    shared = len(everything) * row_bytes <= SHARED_BYTES
    wide = (drawn.batches.size + drawn.validation.size) * row_bytes
    calls = _REPORTS if shared else max(_REPORTS, -(-wide // PART_BYTES))
    each = max(1, len(drawn.evaluated) // calls)
    for start in range(0, len(drawn.evaluated), each):
        evaluated = drawn.evaluated[start : start + each]
        first = 0 if start == 0 else int(drawn.evaluated[start - 1]) + 1
        batches = drawn.batches[first : int(evaluated[-1]) + 1]
        validation = drawn.validation[start : start + each] if len(drawn.validation) > 1 else drawn.validation
        examples = everything if shared else np.union1d(batches, validation)
        yield _Part(
            first,
            examples,
            np.searchsorted(examples, batches).astype(np.int32),
            np.searchsorted(examples, validation).astype(np.int32),
            (evaluated - first + 1).astype(np.int32),
        )


def _gathered(parts: Iterator[_Part], gather: Gather, scale: _Standardisation) -> Iterator[tuple[_Part, Any]]:
    """Yield each part with the features of its examples as a tensor; the next ones are gathered meanwhile."""
    import tensorflow as tf

    held: tuple[np.ndarray, Any] = (np.zeros(0), None)

    def load(part: _Part) -> tuple[_Part, Any]:
        nonlocal held
        if part.examples is not held[0]:
            held = (part.examples, tf.constant(scale.features(gather(part.examples))))
        return part, held[1]

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(load, next(parts))
        for part in parts:
            ready = waiting.result()
            waiting = ahead.submit(load, part)
            yield ready
        yield waiting.result()


def _segment(part: _Part, per_step: np.ndarray, per_evaluation: np.ndarray, head: Head, batch: np.ndarray) -> Segment:
    return Segment(
        steps=part.first + np.arange(len(part.batches)),
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


def _compiled_steps() -> Any:
    """Return the compiled loop over steps and evaluations.

    Plain gradient descent written out, in as few operations as it takes: starting one costs more than computing it.
    The weights are [C, D + 1], along the rows of the features, which both products read faster.
    """
    import tensorflow as tf

    def losses_of(logits: Any, labels: Any) -> Any:
        return tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=labels)

    def measured(features: Any, labels: Any, weights: Any) -> Any:
        logits = tf.matmul(features, weights, transpose_b=True)
        right = tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32)
        return tf.stack([tf.reduce_mean(right), tf.reduce_mean(losses_of(logits, labels)[0])])

    def run(weights: Any, vectors: Any, labels: Any, batches: Any, validation: Any, ends: Any, rate: Any) -> Any:
        wanted = tf.gather(labels, batches)
        guessed = tf.TensorArray(tf.int64, tf.shape(batches)[0])
        losses = tf.TensorArray(tf.float32, tf.shape(batches)[0])
        per_evaluation = tf.TensorArray(tf.float32, tf.shape(ends)[0])
        downhill = -rate / tf.cast(tf.shape(batches)[1], tf.float32)
        step = tf.constant(0)
        for evaluation in tf.range(tf.shape(ends)[0]):
            while step < ends[evaluation]:
                features = tf.gather(vectors, batches[step])
                logits = tf.matmul(features, weights, transpose_b=True)
                loss, surplus = losses_of(logits, wanted[step])
                guessed = guessed.write(step, tf.argmax(logits, axis=1))
                losses = losses.write(step, loss)
                weights += tf.matmul(surplus * downhill, features, transpose_a=True)
                step += 1
            held_out = validation[evaluation % tf.shape(validation)[0]]
            trained = measured(tf.gather(vectors, batches[step - 1]), wanted[step - 1], weights)
            validated = measured(tf.gather(vectors, held_out), tf.gather(labels, held_out), weights)
            per_evaluation = per_evaluation.write(evaluation, tf.concat([trained, validated], axis=0))
        right = tf.cast(tf.equal(guessed.stack(), wanted), tf.float32)
        per_step = tf.stack([tf.reduce_mean(right, axis=1), tf.reduce_mean(losses.stack(), axis=1)], axis=1)
        return weights, per_step, per_evaluation.stack()

    matrix, table = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.int32)
    class_ids, steps = tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int32)
    signature = [matrix, matrix, class_ids, table, table, steps, tf.TensorSpec([], tf.float32)]
    return tf.function(run, input_signature=signature)
