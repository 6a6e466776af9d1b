"""What fine-tuned layers take: the stored output of the frozen layers below them, or photos, augmented as they go."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones.loading import load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.decoded import decode_all
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import BottleneckReader
from retrain.bottlenecks.store import Store
from retrain.data import augmentation
from retrain.data.augmentation import Augmentation
from retrain.data.split import Split
from retrain.data.variants import Variants, list_variants
from retrain.graphs import freezing
from retrain.preprocessing import InputSpec
from retrain.session import Session
from retrain.training import pointwise, trainable_layers
from retrain.training.epochs import EpochBatches
from retrain.training.joint_training import Batch, FineTuningData, TrainedLayers
from retrain.training.recipe import FineTuningPlan
from retrain.training.trainable_layers import TrainableLayers

_DRAWS = 1  # beside the seed, so that augmentation and order are drawn apart


def on_stored(layers: TrainableLayers) -> TrainedLayers:
    """Return layers that take the stored output of what is below them, float32 [N, sum of sizes]."""
    import tensorflow as tf

    held_out = tf.TensorSpec([None, sum(layers.sizes)], tf.float32)
    return TrainedLayers(layers.bottlenecks, held_out, layers.model.trainable_variables)


def on_pixels(network: Any, spec: InputSpec, layers: TrainableLayers) -> TrainedLayers:
    """Return a network that takes photos, as `spec` says, of which some layers are trained.

    Validation images are uint8 [N, height, width, 3]. Training takes photos with `Augmentation.draw` behind them.
    """
    import tensorflow as tf

    def bottlenecks(pixels: Any, *draws: Any) -> Any:
        images = augmentation.in_graph(pixels, *draws, size=spec.size) if draws else tf.cast(pixels, tf.float32)
        scaled = (images - spec.mean) / spec.std
        return pointwise.run(network.model, network.preprocess(scaled) if network.preprocess else scaled)

    held_out = tf.TensorSpec([None, *spec.size, 3], tf.uint8)
    return TrainedLayers(bottlenecks, held_out, layers.model.trainable_variables)


def pixel_data(
    prepared: PreparedDataset,
    augmented: Augmentation,
    plan: FineTuningPlan,
    folder: Path,
    session: Session,
) -> FineTuningData:
    """Return photos as a training takes them, decoded once into a folder; those for validation are as they are."""
    photos, spec = list_variants(prepared.dataset, copies=0), prepared.backbone.input
    training, validation = photos.members[Split.TRAINING], photos.members[Split.VALIDATION]
    total = len(training) + len(validation)
    advance = session.terminal.progress("Decoding", "image")

    def decoded(rows: np.ndarray, size: tuple[int, int], name: str, before: int) -> Callable[[np.ndarray], np.ndarray]:
        height, width = size
        return decode_all(
            prepared.extractor.image_dir,
            [photos.rows[row].path for row in rows.tolist()],
            replace(spec, height=height, width=width),
            folder / name,
            opened=session.opened,
            advance=lambda done, _: advance(before + done, total),
        )

    read = decoded(training, augmented.canvas(spec.size), "training", 0)
    held_out = decoded(validation, spec.size, "validation", len(training))
    batches, labels = EpochBatches(len(training), plan.batch_size, plan.seed), photos.labels[training]

    def batch(step: int) -> Batch:
        rows = batches(step)
        draws = augmented.draw(np.random.default_rng([plan.seed, _DRAWS, step]), len(rows), spec.size)
        return Batch((read(rows), *draws), labels[rows])

    return FineTuningData(batch, held_out, photos.labels[validation])


def stored_data(
    prepared: PreparedDataset,
    network: Any,
    layers: TrainableLayers,
    plan: FineTuningPlan,
    session: Session,
) -> FineTuningData:
    """Return what the trained layers take of each photo, computed where it is not stored yet."""
    photos = list_variants(prepared.dataset, copies=0)
    training, validation = photos.members[Split.TRAINING], photos.members[Split.VALIDATION]
    gather = _photo_reader(prepared, network, layers, photos, session)
    batches = EpochBatches(len(training), plan.batch_size, plan.seed)

    def batch(step: int) -> Batch:
        rows = training[batches(step)]
        return Batch((gather(rows),), photos.labels[rows])

    def held_out(rows: np.ndarray) -> np.ndarray:
        return gather(validation[rows])

    return FineTuningData(batch, held_out, photos.labels[validation])


def _photo_reader(
    prepared: PreparedDataset,
    network: Any,
    layers: TrainableLayers,
    photos: Variants,
    session: Session,
) -> BottleneckReader:
    """Return a reader of the frozen part's output for photos; those that are not for testing are computed now and kept.

    Raises:
        StoreError: A photo cannot be read any more.
    """
    folder = prepared.backbone.graph.parent / f"below_{layers.name}"
    backbone = load_backbone(
        prepared.backbone_source, folder, build=lambda source: _freeze_lower_layers(network, layers)
    )
    runner = BackboneRunner(backbone, session.terminal.warn, distribution=prepared.extractor.runner.distribution)
    extractor = replace(prepared.extractor, runner=runner, legacy_vector=lambda path: None)
    store = session.opened.enter_context(Store(folder, dimension=backbone.dimension))
    stored = np.sort(np.concatenate([photos.members[Split.TRAINING], photos.members[Split.VALIDATION]]))
    advance = session.terminal.progress("Frozen layers", "image")
    return BottleneckReader.filled(photos.rows, stored, extractor=extractor, store=store, advance=advance)


def _freeze_lower_layers(network: Any, layers: TrainableLayers) -> freezing.FrozenGraph:
    """Return the frozen part as a graph from pixels to all inputs of the trainable layers, flat and concatenated."""
    frozen_layers = trainable_layers.frozen_part(network.model, layers)
    _, height, width, _ = network.model.input_shape

    def flat(pixels: Any) -> Any:
        import tensorflow as tf

        outputs = frozen_layers(network.preprocess(pixels) if network.preprocess else pixels, training=False)
        tensors = outputs if isinstance(outputs, list) else [outputs]
        pairs = zip(tensors, layers.sizes, strict=True)
        return tf.concat([tf.reshape(tensor, [-1, size]) for tensor, size in pairs], axis=1)

    frozen = freezing.from_function(flat, height, width)
    return replace(frozen, input=frozen.input.filled_from(network.input))
