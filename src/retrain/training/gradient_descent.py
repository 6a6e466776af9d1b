"""Plain gradient descent on a head of one layer, compiled: the original's training, and the fastest."""

from typing import Any

import numpy as np

from retrain.head import Head, Layer, Standardisation
from retrain.training.chunks import Chunk


class SgdTrainer:
    """The weights of a training that goes on from part to part; they start at zero.

    A linear head on standardised features needs no random start ("Big Transfer", Kolesnikov et al., 2020).
    """

    def __init__(self, scale: Standardisation, *, class_count: int, learning_rate: float, shared: bool) -> None:
        """Start a head of `class_count` classes; `shared` as in `Part`."""
        import tensorflow as tf

        self._scale, self._shared = scale, shared
        self._constants = [
            tf.constant(values) for values in (scale.mean, 1 / scale.deviation**2, np.float32(learning_rate))
        ]
        self._weights, self._biases = tf.zeros([class_count, len(scale.mean)]), tf.zeros([class_count])
        self._run = _compiled_steps(shared=shared)

    def run(self, part: Chunk, vectors: Any, held_out: Any, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Train the steps of one part, and return what was measured.

        Args:
            part: Which.
            vectors: Bottlenecks of its steps, as in `parts.gathered`.
            held_out: Bottlenecks of its evaluations.
            labels: int64 [N], class ids of all examples.

        Returns:
            float32 [S, 2], accuracy and cross-entropy of each step's batch before it; and float32 [E, 4], both of the
            last training batch and of the validation batch at each evaluation.
        """
        import tensorflow as tf

        indices = [part.batches, part.validation, part.ends]
        truths = [labels[part.drawn], labels[part.held_out]]
        self._weights, self._biases, per_step, per_evaluation = self._run(
            self._weights, self._biases, vectors, held_out, *map(tf.constant, indices + truths), *self._constants
        )
        return per_step.numpy(), per_evaluation.numpy()

    def head(self) -> Head:
        """Return the head as it is now."""
        layers = (Layer(np.ascontiguousarray(self._weights.numpy().T), self._biases.numpy()),)
        return self._scale.folded(layers) if self._shared else Head(layers)


def _compiled_steps(*, shared: bool) -> Any:
    """Return the compiled loop over steps and evaluations.

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
