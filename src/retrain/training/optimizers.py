"""Any optimizer on a head of any depth, compiled."""

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
        dropout: Share of what the layers take that is left out.
        seed: int32 [2], which ones; None for none.
    """
    import tensorflow as tf

    pairs = list(zip(variables[::2], variables[1::2], strict=True))
    taken = standardised
    for number, (weights, biases) in enumerate(pairs):
        if seed is not None and dropout and (number or len(pairs) == 1):
            taken = tf.nn.experimental.stateless_dropout(taken, dropout, seed + [number, 0])
        taken = tf.matmul(taken, weights.value) + biases.value
        if number < len(pairs) - 1:
            taken = tf.nn.relu(taken)
    return taken


def losses_of(logits: Any, truths: Any, *, smoothing: float) -> Any:
    """Return the cross-entropy of each row, float32 [N], with a share of each label spread over all classes."""
    import tensorflow as tf

    classes = logits.shape[-1]
    targets = tf.one_hot(truths, classes) * (1 - smoothing) + smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def squares_of(variables: Sequence[Any]) -> Any:
    """Return the sum of the squared weights of dense layers, biases left out."""
    import tensorflow as tf

    return tf.add_n([tf.reduce_sum(weights.value**2) for weights in variables[::2]])


class OptimizerTrainer:
    """The variables of a training that goes on from part to part.

    Hidden layers start as He et al. drew them ("Delving Deep into Rectifiers", 2015), the last layer at zero.
    """

    def __init__(
        self, scale: Standardisation, recipe: HeadRecipe, *, class_count: int, shared: bool, steps: int, seed: int
    ) -> None:
        """Start a head of `class_count` classes; `shared` as in `Part`, `steps` those of the whole training."""
        import keras

        self._scale, self._shared, self._recipe, self._seed = scale, shared, recipe, seed
        rng = np.random.default_rng([seed, 1])
        sizes = [len(scale.mean), *recipe.hidden_units, class_count]
        self._variables = []
        for number, (taken, given) in enumerate(zip(sizes, sizes[1:], strict=False)):
            spread = 0.0 if number == len(recipe.hidden_units) else np.sqrt(2 / taken)
            start = rng.normal(size=(taken, given)).astype(np.float32) * np.float32(spread)
            self._variables += [keras.Variable(start), keras.Variable(np.zeros(given, np.float32))]
        self._optimizer = keras_optimizer(
            recipe.optimizer, learning_rate=recipe.learning_rate, schedule=recipe.schedule, steps=steps
        )
        self._optimizer.build(self._variables)
        self._run = self._compiled()

    def run(self, part: Chunk, vectors: Any, held_out: Any, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Train the steps of one part, and return what was measured, as `LinearSteps.run` does."""
        import tensorflow as tf

        indices = [part.batches, part.validation, part.ends]
        truths = [labels[part.drawn], labels[part.held_out]]
        per_step, per_evaluation = self._run(
            vectors, held_out, *map(tf.constant, indices + truths), tf.constant(part.first)
        )
        return per_step.numpy(), per_evaluation.numpy()

    def head(self) -> Head:
        """Return the head as it is now."""
        values = [variable.numpy() for variable in self._variables]
        layers = tuple(Layer(w, b) for w, b in zip(values[::2], values[1::2], strict=True))
        return self._scale.folded(layers)

    def _compiled(self) -> Any:
        import tensorflow as tf

        mean, factor = tf.constant(self._scale.mean), tf.constant(1 / self._scale.deviation)
        recipe = self._recipe
        trained = [variable.value for variable in self._variables]

        def fetched(vectors: Any, places: Any, number: Any) -> Any:
            return tf.gather(vectors, places[number]) if self._shared else (vectors[number] - mean) * factor

        def measured(logits: Any, truths: Any) -> Any:
            right = tf.cast(tf.equal(tf.argmax(logits, axis=1), truths), tf.float32)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(truths, logits)
            return tf.stack([tf.reduce_mean(right), tf.reduce_mean(loss)])

        def run(
            vectors: Any, held_out: Any, batches: Any, validation: Any, ends: Any, truths: Any, held_truths: Any,
            first: Any,
        ) -> Any:  # fmt: skip
            per_step = tf.TensorArray(tf.float32, tf.shape(truths)[0])
            per_evaluation = tf.TensorArray(tf.float32, tf.shape(ends)[0])
            step = tf.constant(0)
            for evaluation in tf.range(tf.shape(ends)[0]):
                while step < ends[evaluation]:
                    bottlenecks = fetched(vectors, batches, step)
                    with tf.GradientTape() as tape:
                        seed = tf.stack([self._seed, tf.cast(first, tf.int32) + step])
                        logits = logits_of(self._variables, bottlenecks, dropout=recipe.dropout, seed=seed)
                        loss = tf.reduce_mean(losses_of(logits, truths[step], smoothing=recipe.label_smoothing))
                        if recipe.l2:
                            loss += recipe.l2 * squares_of(self._variables)
                    per_step = per_step.write(step, measured(logits, truths[step]))
                    self._optimizer.apply(tape.gradient(loss, trained), self._variables)
                    step += 1
                row = evaluation % tf.shape(held_truths)[0]
                pairs = (
                    (fetched(vectors, batches, step - 1), truths[step - 1]),
                    (fetched(held_out, validation, row), held_truths[row]),
                )
                results = [measured(logits_of(self._variables, x), y) for x, y in pairs]
                per_evaluation = per_evaluation.write(evaluation, tf.concat(results, axis=0))
            return per_step.stack(), per_evaluation.stack()

        return tf.function(run, reduce_retracing=True)
