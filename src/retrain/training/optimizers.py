"""Any optimizer on a head of any depth, compiled by TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrain.head import Head, Layer, Standardisation
from retrain.training.chunks import Chunk
from retrain.training.recipe import HeadRecipe, keras_optimizer


def logits_of(variables: Sequence[Any], standardised: Any, *, dropout: float = 0.0, seed: Any = None) -> Any:
    """Return the logits of dense layers, float32 [N, C].

    Args:
        variables: Weights and biases of each layer in turn, Keras variables.
        standardised: float32 [N, D].
        dropout: Dropout rate.
        seed: int32 [2], decides what is dropped; None for no dropout.
    """
    import tensorflow as tf

    pairs = list(zip(variables[::2], variables[1::2], strict=True))
    layer_input = standardised
    for number, (weights, biases) in enumerate(pairs):
        if seed is not None and dropout and (number or len(pairs) == 1):
            layer_input = tf.nn.experimental.stateless_dropout(layer_input, dropout, seed + [number, 0])
        layer_input = tf.matmul(layer_input, weights.value) + biases.value
        if number < len(pairs) - 1:
            layer_input = tf.nn.relu(layer_input)
    return layer_input


def loss_of(variables: Sequence[Any], logits: Any, labels: Any, recipe: HeadRecipe, batch_size: Any) -> Any:
    """Return what a training minimises: the mean cross-entropy with smoothed labels and the penalty of weights.

    Args:
        variables: As in `logits_of`.
        logits: float32 [N, C].
        labels: int64 [N].
        recipe: How much of each.
        batch_size: float32, N, or more where these are a share of a batch: the losses of all shares are summed.
    """
    import tensorflow as tf

    if recipe.label_smoothing:
        classes = logits.shape[-1]
        targets = tf.one_hot(labels, classes) * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    loss = tf.reduce_sum(losses) / batch_size
    if recipe.l2:
        share = tf.cast(tf.shape(labels)[0], tf.float32) / batch_size
        loss += share * 2 * recipe.l2 * tf.add_n([tf.nn.l2_loss(weights.value) for weights in variables[::2]])  # halves
    return loss


def sums_of(logits: Any, labels: Any) -> Any:
    """Return float32 [3]: how many predictions are correct, the sum of the cross-entropies, and the count."""
    import tensorflow as tf

    correct = tf.cast(tf.equal(tf.argmax(logits, axis=1), labels), tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.stack([tf.reduce_sum(correct), tf.reduce_sum(losses), tf.cast(tf.shape(labels)[0], tf.float32)])


class OptimizerTrainer:
    """The variables of a training that continues from chunk to chunk.

    Hidden layers start as He et al. drew them ("Delving Deep into Rectifiers", 2015), the last layer at zero.
    """

    def __init__(
        self, scale: Standardisation, recipe: HeadRecipe, *, class_count: int, shared: bool, steps: int, seed: int
    ) -> None:
        """Start a head of `class_count` classes for a training of `steps`; `seed` decides weights and dropout.

        `shared` tells that all chunks share their bottlenecks, standardised.
        """
        import keras

        self._scale, self._shared, self._recipe, self._seed = scale, shared, recipe, seed
        rng = np.random.default_rng([seed, 1])
        sizes = [len(scale.mean), *recipe.hidden_units, class_count]
        self._variables = []
        for number, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
            spread = 0.0 if number == len(recipe.hidden_units) else np.sqrt(2 / shape[0])
            weights = rng.normal(size=shape).astype(np.float32) * np.float32(spread)
            self._variables += [keras.Variable(weights), keras.Variable(np.zeros(shape[1], np.float32))]
        self._optimizer = keras_optimizer(recipe, steps)
        self._optimizer.build(self._variables)
        self._run = self._compiled()

    @staticmethod
    def convert(vectors: np.ndarray) -> Any:
        """Return bottlenecks as `run` takes them."""
        import tensorflow as tf

        return tf.constant(vectors)

    def skip_to(self, step: int) -> None:
        """Take the rate that a schedule has at a later step: there is no time for those before it."""
        self._optimizer.iterations.assign(max(step, int(self._optimizer.iterations.numpy())))

    def run(self, chunk: Chunk, vectors: Any, held_out: Any, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Train the steps of one chunk, and return what was measured, as `SgdTrainer.run` does."""
        import tensorflow as tf

        count = len(chunk.evaluated_after)
        # The compiled loop ends with an evaluation; that of a chunk without any is dropped.
        after = chunk.evaluated_after if count else np.array([len(chunk.batches)], np.int32)
        rows = (chunk.batch_rows, chunk.validation_rows, after)
        arrays = (*rows, labels[chunk.batches], labels[chunk.validation], chunk.first_step)
        per_step, per_evaluation = self._run(vectors, held_out, *map(tf.constant, arrays))
        return per_step.numpy(), per_evaluation.numpy()[:count]

    def head(self) -> Head:
        """Return the head as it is now, on raw bottlenecks."""
        values = [variable.numpy() for variable in self._variables]
        layers = tuple(Layer(w, b) for w, b in zip(values[::2], values[1::2], strict=True))
        return self._scale.fold(layers)

    def _compiled(self) -> Any:
        import tensorflow as tf

        mean, factor = tf.constant(self._scale.mean), tf.constant(1 / self._scale.deviation)
        recipe = self._recipe
        tensors = [variable.value for variable in self._variables]

        def read(vectors: Any, rows: Any, number: Any) -> Any:
            return tf.gather(vectors, rows[number]) if self._shared else (vectors[number] - mean) * factor

        def measured(logits: Any, labels: Any) -> Any:
            sums = sums_of(logits, labels)
            return sums[:2] / sums[2]

        def run(*chunk: Any) -> Any:
            vectors, held_out, batch_rows, validation_rows, evaluated_after, labels, validation_labels, first = chunk
            per_step = tf.TensorArray(tf.float32, tf.shape(labels)[0])
            per_evaluation = tf.TensorArray(tf.float32, tf.shape(evaluated_after)[0])
            step = tf.constant(0)
            for evaluation in tf.range(tf.shape(evaluated_after)[0]):
                while step < evaluated_after[evaluation]:
                    bottlenecks = read(vectors, batch_rows, step)
                    with tf.GradientTape() as tape:
                        seed = tf.stack([self._seed, tf.cast(first, tf.int32) + step])
                        logits = logits_of(self._variables, bottlenecks, dropout=recipe.dropout, seed=seed)
                        size = tf.cast(tf.shape(labels)[1], tf.float32)
                        loss = loss_of(self._variables, logits, labels[step], recipe, size)
                    per_step = per_step.write(step, measured(logits, labels[step]))
                    self._optimizer.apply(tape.gradient(loss, tensors), self._variables)
                    step += 1
                row = evaluation % tf.shape(validation_labels)[0]
                pairs = (
                    (read(vectors, batch_rows, step - 1), labels[step - 1]),
                    (read(held_out, validation_rows, row), validation_labels[row]),
                )
                results = [measured(logits_of(self._variables, x), y) for x, y in pairs]
                per_evaluation = per_evaluation.write(evaluation, tf.concat(results, axis=0))
            return per_step.stack(), per_evaluation.stack()

        # Chunks differ in length: traced once for all.
        kinds = [(2 if self._shared else 3, tf.float32)] * 2 + [(2, tf.int32)] * 2 + [(1, tf.int32)]
        kinds += [(2, tf.int64)] * 2 + [(0, tf.int32)]
        return tf.function(run, input_signature=[tf.TensorSpec([None] * rank, kind) for rank, kind in kinds])
