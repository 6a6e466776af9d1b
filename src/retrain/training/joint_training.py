"""Fine-tuning: the tail of a network trained together with its head, step by step, with a checkpoint to go on from."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import devices
from retrain.bottlenecks.reading import Gather
from retrain.errors import TrainingError, first_line
from retrain.files import write_atomically
from retrain.head import Head, Layer, Standardisation
from retrain.training.optimizers import logits_of, losses_of, squares_of
from retrain.training.recipe import HeadRecipe, keras_optimizer
from retrain.training.trainable_layers import TrainableLayers

_AT_ONCE = 256  # validation images that go through the tail together


@dataclass(frozen=True)
class Tuning:
    """One evaluation: the step that it follows, of the training batches since the last one, and of all held out."""

    step: int
    train_accuracy: float
    train_cross_entropy: float
    validation_accuracy: float
    validation_cross_entropy: float

    @property
    def rank(self) -> tuple[float, float]:
        """Return what a better evaluation has more of."""
        return self.validation_accuracy, -self.validation_cross_entropy


@dataclass
class _State:
    """How far a fine-tuning is, all that a checkpoint holds: steps done, evaluations, the best weights and now's."""

    done: int = 0
    history: list[Tuning] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)


class JointTraining:
    """The variables of a tail and its head while they are trained."""

    def __init__(
        self,
        cut: TrainableLayers,
        head: Head,
        scale: Standardisation,
        recipe: HeadRecipe,
        *,
        steps: int,
        seed: int,
        strategy: Any,
        warn: Callable[[str], None],
    ) -> None:
        """Start from a trained head; call it in the scope of `strategy`, in which the tail was built.

        Args:
            cut: What to train beside the head.
            head: On raw bottlenecks.
            scale: What its training scaled bottlenecks by; stays as it is.
            recipe: Learning rate, optimizer and the rest, for tail and head alike.
            steps: Of the whole fine-tuning.
            seed: Of dropout.
            strategy: Spreads each batch over devices.
            warn: Told of a batch that does not fit.
        """
        import keras

        self._cut, self._scale, self._recipe = cut, scale, recipe
        self._seed, self._strategy, self._warn, self._slices = seed, strategy, warn, 1
        layers = scale.unfolded(head)
        self._head = [keras.Variable(a) for layer in layers for a in (layer.weights, layer.biases)]
        self._trained = [*cut.model.trainable_variables, *self._head]
        self._optimizer = keras_optimizer(
            recipe.optimizer, learning_rate=recipe.learning_rate, schedule=recipe.schedule, steps=steps
        )
        self._optimizer.build(self._trained)
        self._compiled_gradients, self._compiled_update, self._compiled_logits = self._compiled()

    def head(self) -> Head:
        """Return the head as it is now, on raw bottlenecks."""
        values = [variable.numpy() for variable in self._head]
        return self._scale.folded(tuple(Layer(w, b) for w, b in zip(values[::2], values[1::2], strict=True)))

    def run(
        self,
        gather: Gather,
        batches: np.ndarray,
        truths: np.ndarray,
        held_out: Sequence[np.ndarray],
        *,
        every: int,
        patience: int | None,
        checkpoint: Path,
        identity: str,
        report: Callable[[Tuning], None],
    ) -> Tuning:
        """Train, leave the best weights behind, and return the evaluation that chose them; step -1 for none better.

        Args:
            gather: Gives what the frozen part makes of pictures.
            batches: int64 [S, B], the pictures of each step.
            truths: int64 [S, B], their class ids.
            held_out: The validation pictures int64 [V] and their class ids int64 [V].
            every: Steps from one evaluation to the next.
            patience: Stop after so many evaluations without a better one.
            checkpoint: A file that holds how far this got; gone when it is through.
            identity: What makes this fine-tuning another than one whose checkpoint may lie there.
            report: Told of every evaluation, those of an earlier, killed run first.

        Raises:
            TrainingError: The weights grew beyond all numbers.
        """
        state = self._restored(checkpoint, identity)
        if not state.history:
            state.history.append(Tuning(-1, np.nan, np.nan, *self._evaluate(gather, *held_out)))
            state.best = self._values()
        for row in state.history:
            report(row)
        sums = np.zeros(3)
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(gather, batches[state.done]) if state.done < len(batches) else None
            while waiting is not None and not _is_over(state.history, patience):
                flat, step = waiting.result(), state.done
                state.done += 1
                waiting = ahead.submit(gather, batches[state.done]) if state.done < len(batches) else None
                sums += self._step(flat, truths[step], step)
                if waiting is None or state.done % every == 0:
                    self._note(state, step, sums, gather, held_out)
                    sums = np.zeros(3)
                    self._save(checkpoint, identity, state)
                    report(state.history[-1])
        best = max(state.history, key=lambda row: row.rank)
        self._assign(self._trained, state.best)
        checkpoint.unlink(missing_ok=True)
        return best

    def _note(self, state: _State, step: int, sums: np.ndarray, gather: Gather, held_out: Sequence[np.ndarray]) -> None:
        """Evaluate, and keep the weights if they are the best so far."""
        if not np.isfinite(sums).all():
            raise TrainingError(
                f"the fine-tuning diverged before step {step + 1}: its weights are no numbers any more. Try a smaller "
                f"--fine_tune_learning_rate than {self._recipe.learning_rate:g}."
            )
        best = max(row.rank for row in state.history)
        row = Tuning(step, sums[0] / sums[2], sums[1] / sums[2], *self._evaluate(gather, *held_out))
        state.history.append(row)
        if row.rank > best:
            state.best = self._values()

    def _step(self, flat: np.ndarray, truths: np.ndarray, step: int) -> np.ndarray:
        """Take one step, and return the sums of right answers and of cross-entropies, and the count of images."""
        import tensorflow as tf

        while True:
            try:
                return self._take(flat, truths, step)
            except tf.errors.ResourceExhaustedError:
                if self._slices >= len(truths):
                    raise TrainingError(
                        "one image alone does not fit into the memory. Fine-tune from a higher layer, or choose a "
                        "smaller network."
                    ) from None
                self._slices *= 2
                size = -(-len(truths) // self._slices)
                self._warn(f"A batch of {len(truths)} images does not fit into the memory: taking {size} at a time.")

    def _take(self, flat: np.ndarray, truths: np.ndarray, step: int) -> np.ndarray:
        """Add up the gradients of a batch, in slices where it does not fit whole, and update once."""
        import tensorflow as tf

        gradients, sums = None, np.zeros(3)
        seed = tf.constant([self._seed, step], tf.int32)
        for rows in np.array_split(np.arange(len(truths)), self._slices):

            def share(part: slice, rows: np.ndarray = rows) -> tuple[Any, Any]:
                return tf.constant(flat[rows[part]]), tf.constant(truths[rows[part]])

            given = devices.split_across_replicas(self._strategy, len(rows), share)
            count = tf.constant(len(truths), tf.float32)
            new, measured = self._compiled_gradients(given, count, seed)
            sums += self._strategy.reduce(tf.distribute.ReduceOp.SUM, measured, axis=None).numpy()
            gradients = new if gradients is None else self._strategy.run(_added, (gradients, new))
        self._compiled_update(gradients)
        return sums

    def _evaluate(self, gather: Gather, examples: np.ndarray, truths: np.ndarray) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy of examples, NaN for none."""
        import tensorflow as tf

        right = loss = 0.0
        for start in range(0, len(examples), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            logits = self._compiled_logits(tf.constant(gather(examples[rows])))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truths[rows], logits)
            right += float(tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == truths[rows], tf.float32)))
            loss += float(tf.reduce_sum(losses))
        count = max(1, len(examples))
        return (right / count, loss / count) if len(examples) else (np.nan, np.nan)

    def _compiled(self) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        mean, factor = tf.constant(self._scale.mean), tf.constant(1 / self._scale.deviation)
        recipe = self._recipe

        def logits(flat: Any, seed: Any = None) -> Any:
            bottlenecks = (self._cut.bottlenecks(flat) - mean) * factor
            return logits_of(self._head, bottlenecks, dropout=recipe.dropout, seed=seed)

        def gradients(given: Any, count: Any, seed: Any) -> Any:
            flat, truths = given
            with tf.GradientTape() as tape:
                scores = logits(flat, seed)
                loss = tf.reduce_sum(losses_of(scores, truths, smoothing=recipe.label_smoothing)) / count
                if recipe.l2:  # its share in the whole batch
                    share = tf.cast(tf.shape(truths)[0], tf.float32) / count
                    loss += share * recipe.l2 * squares_of(self._head)
            right = tf.reduce_sum(tf.cast(tf.equal(tf.argmax(scores, 1), truths), tf.float32))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truths, scores)
            measured = tf.stack([right, tf.reduce_sum(losses), tf.cast(tf.shape(truths)[0], tf.float32)])
            return tape.gradient(loss, [v.value for v in self._trained]), measured

        def update(sums: Any) -> None:
            # The optimizer adds up those of all replicas first; what it adds must say which device it is on.
            self._optimizer.apply([tf.identity(gradient) for gradient in sums], self._trained)

        flat = tf.TensorSpec([None, sum(self._cut.sizes)], tf.float32)
        return (
            tf.function(lambda *given: self._strategy.run(gradients, given), reduce_retracing=True),
            tf.function(lambda sums: self._strategy.run(update, (sums,))),
            tf.function(logits, input_signature=[flat]),
        )

    def _values(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._trained]

    @staticmethod
    def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _save(self, path: Path, identity: str, state: _State) -> None:
        """Write how far the training is, whole or not at all."""
        arrays = {"identity": np.array(identity), "done": np.array(state.done)}
        arrays["history"] = np.array([list(vars(row).values()) for row in state.history])
        for name, values in (("best", state.best), ("now", self._values()), ("rule", self._rule())):
            arrays |= {f"{name}_{number}": value for number, value in enumerate(values)}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        write_atomically(path, content.getvalue())

    def _restored(self, path: Path, identity: str) -> _State:
        """Return how far a killed run of this very training got, its weights put in place; the beginning for none."""
        found = self._read(path, identity)
        if not devices.all_replicas_agree(self._strategy, 0 if found is None else int(found["done"])):
            self._warn("The workers were stopped at different steps: fine-tuning starts anew.")
            return _State()
        if found is None:
            return _State()
        history = [Tuning(int(row[0]), *map(float, row[1:])) for row in found["history"]]
        self._assign(self._trained, [found[f"now_{n}"] for n in range(len(self._trained))])
        self._assign(self._optimizer.variables, [found[f"rule_{n}"] for n in range(len(self._optimizer.variables))])
        self._warn(f"Fine-tuning goes on after step {int(found['done']) - 1}, where {path} says that it was stopped.")
        return _State(int(found["done"]), history, [found[f"best_{n}"] for n in range(len(self._trained))])

    def _read(self, path: Path, identity: str) -> dict[str, np.ndarray] | None:
        """Return what a checkpoint of this very training holds, None for none."""
        try:
            with np.load(path, allow_pickle=False) as opened:
                arrays = {name: opened[name] for name in opened.files}
            return arrays if str(arrays["identity"]) == identity else None
        except FileNotFoundError:
            return None
        except Exception as error:  # damage in a zip file shows as anything
            self._warn(f"{path} is damaged ({first_line(error)}): fine-tuning starts anew.")
            return None

    def _rule(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._optimizer.variables]


def identity_of(*parts: object) -> str:
    """Return 64 hexadecimal digits that change with any of some values."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _added(some: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    return [one + other for one, other in zip(some, others, strict=True)]


def _is_over(history: Sequence[Tuning], patience: int | None) -> bool:
    """Return whether so many evaluations have passed since the best one."""
    best = max(range(len(history)), key=lambda number: history[number].rank)
    return patience is not None and len(history) - 1 - best >= patience
