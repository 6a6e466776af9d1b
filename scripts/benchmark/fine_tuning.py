"""Measures the fine-tuning of a whole network beside Keras' `fit`: the same model, photos and augmentation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scripts.benchmark.bench import LITE, Bench, Row, seconds_of

from retrain import head
from retrain.backbones import devices, families
from retrain.data.augmentation import USUAL, in_graph
from retrain.head import Standardisation
from retrain.history import Evaluation
from retrain.preprocessing import InputSpec
from retrain.training import inputs, schedule, trainable_layers
from retrain.training.checkpoints import TrainingCheckpoint
from retrain.training.epochs import EpochBatches
from retrain.training.joint_training import Batch, FineTuningData, JointTraining
from retrain.training.recipe import FineTuningPlan, HeadRecipe

_PHOTOS, _BATCH, _CLASSES, _RATE = 128, 32, 5, 3e-4


def fine_tuning(bench: Bench) -> list[Row]:
    """Measure photos a second of whole networks, in turns, so that both meet the machine's better and worse moments."""
    rows = []
    for name, steps in (("mobilenet_0.25_224", 32), (LITE, 4)):
        network = families.trainable_network(bench.source(name))
        spec = network.input
        pixels = np.random.default_rng(0).integers(0, 256, (_PHOTOS, *USUAL.canvas(spec.size), 3)).astype(np.uint8)
        contenders = _ours(bench, network, pixels, steps), _keras_fit(network, pixels, steps)
        for run in contenders:
            run()  # compiles it
        times = 2 if bench.quick else 4
        ours, theirs = (
            min(seconds) for seconds in zip(*([seconds_of(r) for r in contenders] for _ in range(times)), strict=True)
        )
        photos = steps * _BATCH
        detail = f"{photos / ours:.1f} photos/s; Keras' {photos / theirs:.1f}"
        rows.append(
            Row("fine-tuning, ours over Keras' fit", f"{name}, all layers", theirs / ours, "x", 1.0, 1.1, detail)
        )
    return rows


def _batch(pixels: np.ndarray, size: tuple[int, int], step: int) -> Batch:
    """Return photos with their draws, and labels, of a step."""
    rows = EpochBatches(_PHOTOS, _BATCH, 0)(step)
    draws = USUAL.draw(np.random.default_rng([0, step]), _BATCH, size)
    return Batch((pixels[rows], *draws), rows % _CLASSES)


def _ours(bench: Bench, network: Any, pixels: np.ndarray, steps: int) -> Callable[[], None]:
    """Return a training by this package."""
    spec: InputSpec = network.input
    layers = trainable_layers.split_network(network.model, trainable_layers.ALL)
    dimension = int(network.model.output_shape[-1])
    plan = FineTuningPlan(
        start=trainable_layers.ALL, recipe=HeadRecipe(learning_rate=_RATE), steps=steps, batch_size=_BATCH,
        steps_per_evaluation=steps, seed=0, patience=None, checkpoint=bench.folder, strategy=devices.strategy("none"),
    )  # fmt: skip
    start = head.linear(np.zeros((dimension, _CLASSES), np.float32), np.zeros(_CLASSES, np.float32))
    scale = Standardisation(np.zeros(dimension, np.float32), np.ones(dimension, np.float32))
    training = JointTraining(inputs.on_pixels(network, spec, layers), start, scale, plan, warn=print)
    nothing = np.zeros((0, *spec.size, 3), np.uint8)
    data = FineTuningData(partial(_batch, pixels, spec.size), lambda rows: nothing, np.zeros(0, np.int64))
    checkpoint = TrainingCheckpoint(bench.folder / "state.npz", "", print)

    def run() -> None:
        checkpoint.path.unlink(missing_ok=True)
        training.run(data, checkpoint, _ignore)

    return run


def _ignore(row: Evaluation) -> None:
    """Report an evaluation to nobody."""


def _keras_fit(network: Any, pixels: np.ndarray, steps: int) -> Callable[[], None]:
    """Return the same training by Keras: batch normalisation frozen, gradients clipped, the rate constant."""
    import keras
    import tensorflow as tf

    spec: InputSpec = network.input
    image = keras.Input((*spec.size, 3))
    bottleneck = network.model(network.preprocess(image) if network.preprocess else image, training=False)
    model = keras.Model(image, keras.layers.Dense(_CLASSES)(bottleneck))
    optimizer = keras.optimizers.AdamW(_RATE, weight_decay=schedule.WEIGHT_DECAY, global_clipnorm=schedule.LARGEST_NORM)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    batches = [_batch(pixels, spec.size, step) for step in range(steps)]
    columns = [np.stack(column) for column in zip(*((*batch.inputs, batch.labels) for batch in batches), strict=True)]

    def prepare(photos: Any, maps: Any, tones: Any, labels: Any) -> tuple[Any, Any]:
        return (in_graph(photos, maps, tones, size=spec.size) - spec.mean) / spec.std, labels

    data = tf.data.Dataset.from_tensor_slices(tuple(columns)).map(prepare, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return lambda: model.fit(data, epochs=1, verbose=0)
