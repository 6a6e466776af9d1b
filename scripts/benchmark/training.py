"""Measures the training of heads on stored bottlenecks."""

from functools import partial
from typing import Any

import numpy as np
from scripts import rival
from scripts.benchmark.bench import Bench, Row, best_seconds, seconds_of

from retrain.bottlenecks.reading import Gather
from retrain.bottlenecks.store import Entry, Stamp, Store
from retrain.evaluation.tensorboard import Summaries
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan, keras_optimizer
from retrain.training.sampling import SamplingPlan

_NO_STAMP = Stamp(0, 0, 0)


def train(bench: Bench) -> list[Row]:
    """Measure 4000 steps with their summaries, the best of four, against the rival's, measured on fewer steps."""
    rows = []
    rng = np.random.default_rng(0)
    for dimension in (1001, 2048):
        vectors = rng.random((1000, dimension), np.float32)
        labels = np.sort(rng.integers(0, 5, 1000)).astype(np.int64)
        files = []
        for number, vector in enumerate(vectors):
            files.append(bench.folder / f"{dimension}_{number}.txt")
            files[-1].write_text(",".join(str(value) for value in vector))
        with Store(bench.folder / f"store_{dimension}", dimension=dimension) as store:
            entries = [entry(number, vector) for number, vector in enumerate(vectors)]
            rows_of = np.array(store.put(bench.folder, entries))
            ours = best_seconds(lambda s=store, r=rows_of, y=labels: train_stored(bench, s, r, y, steps=4000), 4)
        steps = 20 if bench.quick else 100
        training = partial(rival.train, files, labels.tolist(), summaries=bench.folder / "rival", held_out=100)
        few, some = (seconds_of(partial(training, steps=count)) for count in (10, 10 + steps))
        theirs = few + (some - few) / steps * 3990  # what a training pays once is counted once
        detail = f"{ours:.2f} s; the rival's {theirs:.0f} s from {steps} of its steps"
        rows.append(Row("4000 steps, over the rival", f"{dimension}-d", theirs / ours, "x", 100, 200, detail))
    return rows


def heads(bench: Bench) -> list[Row]:
    """Measure another head's training, measured at every step, against Keras' `fit`, measured at every tenth."""
    steps = 2000
    rng = np.random.default_rng(0)
    vectors, labels = rng.random((1100, 1001), np.float32), np.arange(1100) % 5
    recipe = HeadRecipe(hidden_units=(256,), optimizer="adam", learning_rate=0.001)
    plan = TrainingPlan(steps, batch_size=100, validation_batch_size=100, eval_step_interval=10, seed=0)
    samples, data = _samples(lambda examples: vectors[examples], labels, plan)
    ours = best_seconds(lambda: head_training.train(data, samples, recipe, plan))
    theirs = best_seconds(lambda: _keras_fit(vectors, labels, samples, recipe), 2)
    on, detail = f"adam, 256 hidden, {steps} steps", f"{ours:.2f} s; Keras' {theirs:.2f} s"
    return [Row("other heads, ours over Keras' fit", on, theirs / ours, "x", 1.5, 2, detail)]


def train_stored(bench: Bench, store: Store, rows_of: np.ndarray, labels: np.ndarray, *, steps: int) -> None:
    """Train on stored bottlenecks with the default batches and write the summaries, as the command does."""
    from retrain.evaluation.tensorboard import summarise

    plan = TrainingPlan(steps, batch_size=100, validation_batch_size=100, eval_step_interval=10, seed=0)
    samples, data = _samples(lambda examples: store.read(rows_of[examples]), labels, plan)
    with Summaries(bench.folder / "summaries", head_every=steps // 25) as summaries:
        head_training.train(data, samples, HeadRecipe(), plan, report=lambda result: summarise(summaries, result))


def _samples(gather: Gather, labels: np.ndarray, plan: TrainingPlan) -> tuple[SamplingPlan, TrainingData]:
    """Return what a training samples, and from what: every tenth example is for validation."""
    everything = np.arange(len(labels))
    validation, training = everything[::10], np.delete(everything, everything[::10])
    samples = sampling.sample_training(labels, training, validation, plan)
    return samples, TrainingData(gather, labels, training, int(labels.max()) + 1)


def _keras_fit(vectors: np.ndarray, labels: np.ndarray, samples: SamplingPlan, recipe: HeadRecipe) -> None:
    """Train a head by Keras' `fit` on the same batches, evaluated every ten steps, and keep the best weights."""
    import keras
    import tensorflow as tf

    standardised = tf.constant((vectors - vectors.mean(axis=0)) / vectors.std(axis=0))
    hidden = [keras.layers.Dense(units, "relu") for units in recipe.hidden_units]
    model = keras.Sequential([*hidden, keras.layers.Dense(int(labels.max()) + 1)])
    model.compile(
        keras_optimizer(recipe, len(samples.batches)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=10,
    )

    def batch(examples: Any) -> tuple[Any, Any]:
        return tf.gather(standardised, examples), tf.gather(labels, examples)

    model.fit(
        tf.data.Dataset.from_tensor_slices(samples.batches).map(batch),
        steps_per_epoch=10,
        epochs=len(samples.batches) // 10,
        validation_data=batch(samples.validation[0]),
        validation_batch_size=samples.validation.shape[1],
        callbacks=[keras.callbacks.EarlyStopping("val_accuracy", patience=10**6, restore_best_weights=True)],
        verbose=0,
    )


def entry(number: int, vector: np.ndarray, name: str | None = None, stamp: Stamp = _NO_STAMP) -> Entry:
    """Return what the store keeps for an image: a vector, and a digest that only this number has."""
    import hashlib

    return Entry(name or str(number), stamp, hashlib.sha256(number.to_bytes(8, "big")).digest(), vector)
