"""Fine-tuning: the upper layers of a network trained together with the head, step by step."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.backbones import devices
from retrain.bottlenecks.reading import Gather
from retrain.errors import TrainingError
from retrain.head import Head, Layer, Standardisation
from retrain.history import Evaluation, History
from retrain.stopping import Stopping
from retrain.training.checkpoints import FineTuningState, TrainingCheckpoint
from retrain.training.optimizers import logits_of, loss_of, sums_of
from retrain.training.recipe import FineTuningPlan, divergence, keras_optimizer
from retrain.training.trainable_layers import TrainableLayers

_AT_ONCE = 256  # validation images that go through the layers together


@dataclass(frozen=True)
class FineTuningData:
    """What a fine-tuning trains on.

    `gather` gives the output of the frozen layers, float32 [n, sum of sizes]. `batches` int64 [S, B] are the examples
    of each step and `labels` int64 [S, B] their class ids, `validation` int64 [V] and `validation_labels` int64 [V]
    those of every evaluation.
    """

    gather: Gather
    batches: np.ndarray
    labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray


class JointTraining:
    """The variables of the upper layers and the head while they are trained."""

    def __init__(
        self,
        layers: TrainableLayers,
        head: Head,
        scale: Standardisation,
        plan: FineTuningPlan,
        *,
        warn: Callable[[str], None],
    ) -> None:
        """Start from a head on raw bottlenecks; call it in the scope of the plan's strategy, as the layers were built.

        `scale` is how the head's training scaled bottlenecks; `warn` gets a line if a batch overflows the memory.
        """
        import keras

        self._layers, self._scale, self._plan = layers, scale, plan
        dense = scale.unfold(head)
        self._head = [keras.Variable(array) for layer in dense for array in (layer.weights, layer.biases)]
        self._trained = [*layers.model.trainable_variables, *self._head]
        self._optimizer = keras_optimizer(plan.recipe, plan.steps)
        self._optimizer.build(self._trained)
        gradients, self._update, self._sums = self._compiled()
        self._accumulator = GradientAccumulator(gradients, plan.strategy, warn)

    def head(self) -> Head:
        """Return the head as it is now, on raw bottlenecks."""
        values = _values(self._head)
        return self._scale.fold(tuple(Layer(w, b) for w, b in zip(values[::2], values[1::2], strict=True)))

    def run(
        self,
        data: FineTuningData,
        checkpoint: TrainingCheckpoint,
        report: Callable[[Evaluation], None],
        stopping: Stopping | None = None,
    ) -> History:
        """Train, leave the best weights in place, and return all evaluations; the first, step -1, is before training.

        The checkpoint stays, so that a training that is complete is not repeated. `report` gets every evaluation, those
        of an interrupted run first.

        Raises:
            TrainingError: The weights are no longer finite.
        """
        plan, batches, stopping = self._plan, data.batches, stopping or Stopping()
        state = checkpoint.restore(plan.strategy, len(data.validation)) or self._start(data)
        history, step, best, sums = History(plan.patience, state.evaluations), state.steps_done, state.best, np.zeros(3)
        _assign(self._trained, state.weights)
        _assign(self._optimizer.variables, state.optimizer)
        for row in history.evaluations:
            report(row)
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            pending, done = pool.submit(data.gather, batches[step % len(batches)]), self._done(stopping, began, step)
            while done < 1 and not history.should_stop:
                flat = pending.result()
                pending = pool.submit(data.gather, batches[(step + 1) % len(batches)])
                sums += self._step(flat, data.labels[step % len(batches)], step)
                step += 1
                done = self._done(stopping, began, step)
                if done >= 1 or step % plan.eval_step_interval == 0:
                    if history.add(self._evaluate(data, step - 1, sums)):
                        best = _values(self._trained)
                    checkpoint.save(self._state(step, history.evaluations, best))
                    report(history.evaluations[-1])
                    sums = np.zeros(3)
        _assign(self._trained, best)
        return history

    def _done(self, stopping: Stopping, began: float, step: int) -> float:
        return stopping.progress(began, step, self._plan.steps)

    def _start(self, data: FineTuningData) -> FineTuningState:
        """Return the state before the first step, evaluated."""
        return self._state(0, [self._evaluate(data, -1, None)], _values(self._trained))

    def _state(self, steps_done: int, evaluations: Sequence[Evaluation], best: Sequence[np.ndarray]) -> FineTuningState:
        weights, optimizer = _values(self._trained), _values(self._optimizer.variables)
        return FineTuningState(steps_done, evaluations, best, weights, optimizer)

    def _step(self, flat: np.ndarray, labels: np.ndarray, step: int) -> np.ndarray:
        """Take one step, and return `sums_of` its batch before it."""
        gradients, sums = self._accumulator.add_up(flat, labels, [self._plan.seed, step])
        self._update(gradients)
        return sums

    def _evaluate(self, data: FineTuningData, step: int, train: np.ndarray | None) -> Evaluation:
        """Return the evaluation after a step; `train` are the sums of the training batches since the last one.

        Raises:
            TrainingError: The weights are no longer finite.
        """
        import tensorflow as tf

        if train is not None and not np.isfinite(train).all():
            raise divergence("fine-tuning", step, "--fine_tune_learning_rate", self._plan.recipe.learning_rate)
        sums = np.zeros(3)
        for start in range(0, len(data.validation), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            flat = tf.constant(data.gather(data.validation[rows]))
            sums += self._sums(flat, tf.constant(data.validation_labels[rows])).numpy()
        return Evaluation(step, *_means(train), *_means(sums), validation_count=len(data.validation))

    def _compiled(self) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        mean, factor = tf.constant(self._scale.mean), tf.constant(1 / self._scale.deviation)
        recipe, strategy = self._plan.recipe, self._plan.strategy

        def logits(flat: Any, seed: Any = None) -> Any:
            bottlenecks = (self._layers.bottlenecks(flat) - mean) * factor
            return logits_of(self._head, bottlenecks, dropout=recipe.dropout, seed=seed)

        def gradients(share: Any, batch_size: Any, seed: Any) -> Any:
            flat, labels = share
            with tf.GradientTape() as tape:
                predicted = logits(flat, seed)
                loss = loss_of(self._head, predicted, labels, recipe, batch_size)
            return tape.gradient(loss, [variable.value for variable in self._trained]), sums_of(predicted, labels)

        def update(sums: Any) -> None:
            # The optimizer adds up those of all replicas first; what it adds must say which device it is on.
            self._optimizer.apply([tf.identity(gradient) for gradient in sums], self._trained)

        inputs = [tf.TensorSpec([None, sum(self._layers.sizes)], tf.float32), tf.TensorSpec([None], tf.int64)]
        return (
            tf.function(lambda *args: strategy.run(gradients, args), reduce_retracing=True),
            tf.function(lambda sums: strategy.run(update, (sums,))),
            tf.function(lambda flat, labels: sums_of(logits(flat), labels), input_signature=inputs),
        )


class GradientAccumulator:
    """Adds up the gradients of a batch, in slices where the whole does not fit into the memory."""

    def __init__(self, gradients: Callable[..., Any], strategy: Any, warn: Callable[[str], None]) -> None:
        """Take whole batches at first; `warn` gets a line whenever slices are halved.

        `gradients` gives, for (flat, labels), the size of the whole batch and a seed, the gradients and `sums_of`.
        """
        self._gradients, self._strategy, self._warn, self._slices = gradients, strategy, warn, 1

    def add_up(self, flat: np.ndarray, labels: np.ndarray, seed: Sequence[int]) -> tuple[Any, np.ndarray]:
        """Return the gradients of a batch and its `sums_of`.

        Raises:
            TrainingError: One image alone does not fit into the memory.
        """
        import tensorflow as tf

        while True:
            try:
                return self._add_up(flat, labels, tf.constant(seed, tf.int32))
            except tf.errors.ResourceExhaustedError:
                if self._slices >= len(labels):
                    raise TrainingError(
                        "one image alone does not fit into the memory. Fine-tune from a higher layer, or choose a "
                        "smaller network."
                    ) from None
                self._slices *= 2
                size = -(-len(labels) // self._slices)
                self._warn(f"A batch of {len(labels)} images does not fit into the memory: taking {size} at a time.")

    def _add_up(self, flat: np.ndarray, labels: np.ndarray, seed: Any) -> tuple[Any, np.ndarray]:
        import tensorflow as tf

        total, sums = None, np.zeros(3)
        batch_size = tf.constant(len(labels), tf.float32)
        for rows in np.array_split(np.arange(len(labels)), self._slices):

            def share(part: slice, rows: np.ndarray = rows) -> tuple[Any, Any]:
                return tf.constant(flat[rows[part]]), tf.constant(labels[rows[part]])

            shares = devices.split_across_replicas(self._strategy, len(rows), share)
            gradients, measured = self._gradients(shares, batch_size, seed)
            sums += self._strategy.reduce(tf.distribute.ReduceOp.SUM, measured, axis=None).numpy()
            total = gradients if total is None else self._strategy.run(_added, (total, gradients))
        return total, sums


def _means(sums: np.ndarray | None) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy from `sums_of`, NaN without images."""
    if sums is None or not sums[2]:
        return np.nan, np.nan
    return float(sums[0] / sums[2]), float(sums[1] / sums[2])


def _added(some: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    return [one + other for one, other in zip(some, others, strict=True)]


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
