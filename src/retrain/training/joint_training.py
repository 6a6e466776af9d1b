"""Fine-tuning: layers of a network trained together with the head, step by step."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.backbones import devices
from retrain.errors import TrainingError
from retrain.head import Head, Layer, Standardisation
from retrain.history import Evaluation, History, to_keep
from retrain.stopping import Stopping
from retrain.training import schedule
from retrain.training.checkpoints import FineTuningState, TrainingCheckpoint
from retrain.training.optimizers import logits_of, loss_of, sums_of
from retrain.training.recipe import FineTuningPlan, divergence

_AT_ONCE = 64  # validation images that go through the layers together


@dataclass(frozen=True)
class TrainedLayers:
    """What is trained below the head.

    `bottlenecks` gives float32 [N, D] for arrays of N rows each: those of `Batch.inputs`, or the one array that
    `FineTuningData.held_out` gives and `held_out` describes. `variables` are trained, the lowest first.
    """

    bottlenecks: Callable[..., Any]
    held_out: Any
    variables: Sequence[Any]


@dataclass(frozen=True)
class Batch:
    """What a step trains on: arrays of B rows, and class ids int64 [B]."""

    inputs: Sequence[np.ndarray]
    labels: np.ndarray


@dataclass(frozen=True)
class FineTuningData:
    """What a fine-tuning trains on, and is evaluated on.

    `batch` gives the batch of a step, the same whenever it is asked. `held_out` gives the input of validation images,
    int64 [n] positions below V, whose class ids are `validation_labels` int64 [V].
    """

    batch: Callable[[int], Batch]
    held_out: Callable[[np.ndarray], np.ndarray]
    validation_labels: np.ndarray


class JointTraining:
    """The variables of the layers and the head while they are trained."""

    def __init__(
        self,
        layers: TrainedLayers,
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
        self._trained = [*layers.variables, *self._head]
        self._optimizer = schedule.adamw([*schedule.layer_rates(len(layers.variables)), *(1.0 for _ in self._head)])
        self._optimizer.exclude_from_weight_decay(var_list=[each for each in self._trained if len(each.shape) < 2])
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
        """Train, leave the weights `to_keep` in place, and return all evaluations; the first, step -1, is before it.

        The checkpoint stays, so that a training that is complete is not repeated. `report` gets every evaluation, those
        of an interrupted run first. `stopping` says what may end the training before its last step, or after it.

        Raises:
            TrainingError: The weights are no longer finite.
        """
        plan, count, stopping = self._plan, len(data.validation_labels), stopping or Stopping()
        state = checkpoint.restore(plan.strategy, count) or self._start(data)
        history, step, best, sums = History(plan.patience, state.evaluations), state.steps_done, state.best, np.zeros(3)
        _assign(self._trained, state.weights)
        _assign(self._optimizer.variables, state.optimizer)
        for row in history.evaluations:
            report(row)
        began = time.monotonic()
        progress = stopping.progress(began, step, plan.steps)
        with ThreadPoolExecutor(1) as pool:  # the next batch is prepared while a step runs
            pending = pool.submit(data.batch, step)
            while progress < 1 and not history.should_stop:
                batch = pending.result()
                pending = pool.submit(data.batch, step + 1)
                sums += self._step(batch, step, progress)
                step += 1
                progress = stopping.progress(began, step, plan.steps)
                if progress >= 1 or step % plan.steps_per_evaluation == 0:
                    history.add(self._evaluate(data, step - 1, sums))
                    if to_keep(history.evaluations) is history.evaluations[-1]:
                        best = _values(self._trained)
                    checkpoint.save(self._state(step, history.evaluations, best))
                    report(history.evaluations[-1])
                    sums = np.zeros(3)
        _assign(self._trained, best)
        return history

    def _start(self, data: FineTuningData) -> FineTuningState:
        """Return the state before the first step, evaluated."""
        return self._state(0, [self._evaluate(data, -1, None)], _values(self._trained))

    def _state(self, steps_done: int, evaluations: Sequence[Evaluation], best: Sequence[np.ndarray]) -> FineTuningState:
        weights, optimizer = _values(self._trained), _values(self._optimizer.variables)
        return FineTuningState(steps_done, evaluations, best, weights, optimizer)

    def _step(self, batch: Batch, step: int, progress: float) -> np.ndarray:
        """Take one step at a progress of 0 to 1, and return `sums_of` its batch before it."""
        self._optimizer.learning_rate = self._plan.recipe.learning_rate * schedule.rate_at(progress)
        gradients, sums = self._accumulator.add_up(batch, [self._plan.seed, step])
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
        sums, count = np.zeros(3), len(data.validation_labels)
        for start in range(0, count, _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, count))
            images = tf.constant(data.held_out(rows))
            sums += self._sums(images, tf.constant(data.validation_labels[rows])).numpy()
        return Evaluation(step, *_means(train), *_means(sums), validation_count=count)

    def _compiled(self) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        mean, factor = tf.constant(self._scale.mean), tf.constant(1 / self._scale.deviation)
        recipe, strategy = self._plan.recipe, self._plan.strategy

        def logits(inputs: Sequence[Any], seed: Any = None) -> Any:
            bottlenecks = (self._layers.bottlenecks(*inputs) - mean) * factor
            return logits_of(self._head, bottlenecks, dropout=recipe.dropout, seed=seed)

        def gradients(share: Any, batch_size: Any, seed: Any) -> Any:
            *inputs, labels = share
            with tf.GradientTape() as tape:
                predicted = logits(inputs, seed)
                loss = loss_of(self._head, predicted, labels, recipe, batch_size)
            return tape.gradient(loss, [variable.value for variable in self._trained]), sums_of(predicted, labels)

        def update(sums: Any) -> None:
            # What replicas add up must say which device it is on.
            own = [tf.identity(gradient) for gradient in sums]
            total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)
            clipped, _ = tf.clip_by_global_norm(total, schedule.LARGEST_NORM)
            # The optimizer adds up those of all replicas, which are the same by now.
            self._optimizer.apply([gradient / strategy.num_replicas_in_sync for gradient in clipped], self._trained)

        evaluated = [self._layers.held_out, tf.TensorSpec([None], tf.int64)]
        return (
            tf.function(lambda *args: strategy.run(gradients, args), reduce_retracing=True),
            tf.function(lambda sums: strategy.run(update, (sums,))),
            tf.function(lambda images, labels: sums_of(logits([images]), labels), input_signature=evaluated),
        )


class GradientAccumulator:
    """Adds up the gradients of a batch, in slices where the whole does not fit into the memory."""

    def __init__(self, gradients: Callable[..., Any], strategy: Any, warn: Callable[[str], None]) -> None:
        """Take whole batches at first; `warn` gets a line whenever slices are halved.

        `gradients` gives, for inputs and labels, the size of the whole batch and a seed, the gradients and `sums_of`.
        """
        self._gradients, self._strategy, self._warn, self._slices = gradients, strategy, warn, 1

    def add_up(self, batch: Batch, seed: Sequence[int]) -> tuple[Any, np.ndarray]:
        """Return the gradients of a batch and its `sums_of`.

        Raises:
            TrainingError: One image alone does not fit into the memory.
        """
        import tensorflow as tf

        count = len(batch.labels)
        while True:
            try:
                return self._add_up(batch, tf.constant(seed, tf.int32))
            except tf.errors.ResourceExhaustedError:
                if self._slices >= count:
                    raise TrainingError(
                        "one image alone does not fit into the memory. Fine-tune from a higher layer, or choose a "
                        "smaller network."
                    ) from None
                self._slices *= 2
                size = -(-count // self._slices)
                self._warn(f"A batch of {count} images does not fit into the memory: taking {size} at a time.")

    def _add_up(self, batch: Batch, seed: Any) -> tuple[Any, np.ndarray]:
        import tensorflow as tf

        total, sums, count = None, np.zeros(3), len(batch.labels)
        batch_size = tf.constant(count, tf.float32)
        for rows in np.array_split(np.arange(count), self._slices):

            def share(part: slice, rows: np.ndarray = rows) -> tuple[Any, ...]:
                return tuple(tf.constant(array[rows[part]]) for array in (*batch.inputs, batch.labels))

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
