"""From a trained head to a fine-tuned network: split it, store what the frozen part gives, train, freeze the whole."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.backbones.families import trainable_network
from retrain.backbones.keras_networks import freeze
from retrain.backbones.loading import load_backbone, write_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.preparation import TEMPORARY, PreparedDataset
from retrain.bottlenecks.reading import BottleneckReader, Gather, compute_now
from retrain.bottlenecks.store import Store
from retrain.data.split import Split
from retrain.data.variants import Variant
from retrain.errors import StoreError
from retrain.graphs import freezing
from retrain.head import Head
from retrain.history import Evaluation
from retrain.stopping import Stopping
from retrain.terminal import Terminal
from retrain.training import sampling, trainable_layers
from retrain.training.checkpoints import TrainingCheckpoint, identity_of
from retrain.training.head_training import TrainedHead
from retrain.training.joint_training import FineTuningData, JointTraining
from retrain.training.recipe import FineTuningPlan
from retrain.training.trainable_layers import TrainableLayers


@dataclass(frozen=True)
class FineTunedBackbone:
    """A fine-tuned backbone, frozen, with its head and what reads its bottlenecks."""

    extractor: FeatureExtractor
    head: Head
    read: Gather


@dataclass(frozen=True)
class FineTuningResult:
    """All evaluations of a fine-tuning, the first before its first step, and the best of them.

    `network` is the fine-tuned one at the best evaluation, None where fine-tuning was no improvement.
    """

    history: Sequence[Evaluation]
    best: Evaluation
    network: FineTunedBackbone | None


def fine_tune(  # noqa: PLR0913
    prepared: PreparedDataset,
    trained: TrainedHead,
    plan: FineTuningPlan,
    *,
    terminal: Terminal,
    opened: ExitStack,
    report: Callable[[Evaluation], None],
    stopping: Stopping | None = None,
) -> FineTuningResult:
    """Return how the network does fine-tuned from a layer on, together with its head.

    `opened` closes stores, and removes the frozen result, when it is closed itself; `report` gets every evaluation as
    it is made.

    Raises:
        RetrainError: Something that the user can fix.
    """
    with plan.strategy.scope():
        network = trainable_network(prepared.backbone_source)
        layers = trainable_layers.split_network(network.model, plan.start)
        training = JointTraining(layers, trained.head, trained.scale, plan, warn=terminal.warn)
    data = _frozen_part_outputs(prepared, network, layers, plan, terminal=terminal, opened=opened)
    terminal.say(
        f"Fine-tuning {network.model.name} from layer {layers.name} on: {layers.model.count_params():,} parameters, "
        f"on {sum(layers.sizes):,} numbers an image from the frozen layers."
    )
    fingerprint, tag = prepared.backbone_source.fingerprint, prepared.extractor.distorter.distortions.tag
    examples = prepared.dataset.examples
    identity = identity_of(fingerprint, layers.name, plan, tag=tag, examples=examples, head=trained.head)
    history = training.run(data, TrainingCheckpoint(plan.checkpoint, identity, terminal.warn), report, stopping)
    improved = history.best is not history.evaluations[0]
    frozen = _freeze(prepared, network, training.head(), terminal, opened) if improved else None
    return FineTuningResult(history.evaluations, history.best, frozen)


def _frozen_part_outputs(
    prepared: PreparedDataset,
    network: Any,
    layers: TrainableLayers,
    plan: FineTuningPlan,
    *,
    terminal: Terminal,
    opened: ExitStack,
) -> FineTuningData:
    """Return what the trained layers take: stored for photos, computed at each read for distorted copies."""
    examples = prepared.dataset.examples
    labels = np.array([example.class_id for example in examples], np.int64)
    training, validation = (
        np.array([n for n, example in enumerate(examples) if example.split is split], np.int64)
        for split in (Split.TRAINING, Split.VALIDATION)
    )
    rng = np.random.default_rng(plan.seed)
    batches = sampling.sample_batches(rng, labels, training, (plan.steps, plan.batch_size))
    distorted = bool(prepared.extractor.distorter.distortions)
    stored = validation if distorted else np.sort(np.concatenate([training, validation]))
    gather = _photo_reader(prepared, network, layers, stored, terminal=terminal, opened=opened)
    rows = batches
    if distorted:  # behind all photos, a copy for each sample
        numbers = (
            np.random.default_rng([plan.seed, 2]).integers(plan.copies, size=batches.size) if plan.copies else None
        )
        copies = [f"draw {n}" for n in range(batches.size)] if numbers is None else [str(n) for n in numbers]
        gather = gather.with_copies(batches.ravel(), copies)
        rows = len(examples) + np.arange(batches.size).reshape(batches.shape)
    return FineTuningData(gather, rows, labels[batches], validation, labels[validation])


def _photo_reader(
    prepared: PreparedDataset,
    network: Any,
    layers: TrainableLayers,
    stored: np.ndarray,
    *,
    terminal: Terminal,
    opened: ExitStack,
) -> BottleneckReader:
    """Return a reader of the frozen part's output for photos; those `stored` int64 [n] are computed now and kept."""
    folder = prepared.backbone.graph.parent / f"below_{layers.name}"
    backbone = load_backbone(
        prepared.backbone_source, folder, build=lambda source: _freeze_lower_layers(network, layers)
    )
    runner = BackboneRunner(backbone, terminal.warn, distribution=prepared.extractor.runner.distribution)
    extractor = replace(prepared.extractor, runner=runner, legacy_vector=lambda path: None)
    store = opened.enter_context(Store(folder, dimension=backbone.dimension))
    photos = [Variant(example.path) for example in prepared.dataset.examples]
    wanted = [photos[n] for n in stored]
    known, todo = computing.missing(wanted, extractor=extractor, store=store)
    advance = terminal.progress("Frozen layers", "image")
    result = computing.compute(wanted, todo, extractor=extractor, store=store, advance=advance)
    if result.rejected:
        path, reason = next(iter(result.rejected.items()))
        raise StoreError(f"{path} cannot be read any more: {reason}. Run again.")
    rows = np.full(len(photos), computing.NO_ROW, np.int64)
    rows[stored] = np.maximum(known.rows, result.rows)
    return BottleneckReader(photos, rows, extractor=extractor, store=store)


def _freeze(
    prepared: PreparedDataset, network: Any, head: Head, terminal: Terminal, opened: ExitStack
) -> FineTunedBackbone:
    """Return the fine-tuned network as a backbone in a folder of its own, removed at the end."""
    home = prepared.backbone.graph.parent
    place = home if os.access(home, os.W_OK) else None
    try:
        folder = Path(opened.enter_context(TemporaryDirectory(dir=place, prefix=TEMPORARY)))
    except OSError as error:
        raise StoreError(f"cannot write to {place or 'the folder of temporary files'}: {error.strerror}.") from error
    backbone = write_backbone(freeze(network), folder, architecture=prepared.backbone.architecture)
    runner = BackboneRunner(backbone, terminal.warn, distribution=prepared.extractor.runner.distribution)
    extractor = FeatureExtractor(prepared.extractor.image_dir, runner)
    examples = prepared.dataset.examples

    def read(indices: np.ndarray) -> np.ndarray:
        return compute_now([Variant(examples[index].path) for index in indices.tolist()], extractor)

    return FineTunedBackbone(extractor, head, read)


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
