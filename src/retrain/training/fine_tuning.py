"""From a trained head to a fine-tuned network: split it, train the upper part with the head, freeze the whole."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.backbones.families import trainable_network
from retrain.backbones.keras_networks import freeze
from retrain.backbones.loading import frozen_graph, write_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.preparation import TEMPORARY, PreparedDataset
from retrain.bottlenecks.reading import Gather, compute_now
from retrain.data import augmentation
from retrain.data.augmentation import Augmentation
from retrain.data.variants import Variant
from retrain.errors import StoreError
from retrain.head import Head
from retrain.history import Evaluation, to_keep
from retrain.session import Session
from retrain.terminal import Terminal
from retrain.training import inputs, trainable_layers
from retrain.training.checkpoints import TrainingCheckpoint, identity_of
from retrain.training.head_training import TrainedHead
from retrain.training.joint_training import JointTraining
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
    """All evaluations of a fine-tuning, the first before its first step, and the one to keep.

    `network` is the fine-tuned one as it was at that, None where fine-tuning was no improvement.
    """

    history: Sequence[Evaluation]
    best: Evaluation
    network: FineTunedBackbone | None


def fine_tune(
    prepared: PreparedDataset,
    trained: TrainedHead,
    plan: FineTuningPlan,
    session: Session,
    report: Callable[[Evaluation], None],
) -> FineTuningResult:
    """Return how the network does fine-tuned from a layer on, together with its head.

    The end of `session` closes stores and removes the frozen result; `report` gets every evaluation as it is made.

    Raises:
        RetrainError: Something that the user can fix.
    """
    with plan.strategy.scope():
        network = trainable_network(prepared.backbone_source, lambda _: frozen_graph(prepared.backbone))
        layers = trainable_layers.split_network(network.model, plan.start)
        augmented = _augmentation(prepared, network, layers)
        takes = prepared.backbone.input
        below = inputs.on_stored(layers) if augmented is None else inputs.on_pixels(network, takes, layers)
        training = JointTraining(below, trained.head, trained.scale, plan, warn=session.terminal.warn)
    if augmented is None:
        data = inputs.stored_data(prepared, network, layers, plan, session)
    else:
        folder = _temporary_folder(prepared, session.opened)
        data = inputs.pixel_data(prepared, augmented, plan, folder, session)
    _introduce(network, layers, plan, augmented, session.terminal)
    fingerprint, tag = prepared.backbone_source.fingerprint, augmented.tag if augmented else ""
    examples = prepared.dataset.examples
    identity = identity_of(fingerprint, layers.name, plan, tag=tag, examples=examples, head=trained.head)
    checkpoint = TrainingCheckpoint(plan.checkpoint, identity, session.terminal.warn)
    history = training.run(data, checkpoint, report, session.stopping)
    best = to_keep(history.evaluations)
    improved = best is not history.evaluations[0]
    frozen = _freeze(prepared, network, training.head(), session) if improved else None
    return FineTuningResult(history.evaluations, best, frozen)


def _augmentation(prepared: PreparedDataset, network: Any, layers: TrainableLayers) -> Augmentation | None:
    """Return how training photos are changed: as asked, else as usual where nothing is frozen, else not at all.

    What frozen layers give for photos as they are is computed once, which is worth more than new views of them.
    """
    distortions = prepared.extractor.distorter.distortions
    if distortions:
        return Augmentation(distortions)
    return augmentation.USUAL if trainable_layers.is_whole(network.model, layers) else None


def _introduce(
    network: Any, layers: TrainableLayers, plan: FineTuningPlan, augmented: Augmentation | None, terminal: Terminal
) -> None:
    on = "augmented photos" if augmented else f"{sum(layers.sizes):,} numbers an image from the frozen layers"
    terminal.say(
        f"Fine-tuning {network.model.name} from layer {layers.name} on: {layers.model.count_params():,} parameters, "
        f"{plan.steps:,} steps of {plan.batch_size} at up to {plan.recipe.learning_rate:g}, on {on}."
    )


def _temporary_folder(prepared: PreparedDataset, opened: ExitStack) -> Path:
    """Return a folder beside the frozen backbone that is removed at the end, or by a later run if this one is killed.

    Raises:
        StoreError: None can be made.
    """
    home = prepared.backbone.graph.parent
    place = home if os.access(home, os.W_OK) else None
    try:
        return Path(opened.enter_context(TemporaryDirectory(dir=place, prefix=TEMPORARY)))
    except OSError as error:
        raise StoreError(f"cannot write to {place or 'the folder of temporary files'}: {error.strerror}.") from error


def _freeze(prepared: PreparedDataset, network: Any, head: Head, session: Session) -> FineTunedBackbone:
    """Return the fine-tuned network as a backbone in a folder of its own, removed at the end."""
    folder = _temporary_folder(prepared, session.opened)
    backbone = write_backbone(freeze(network), folder, architecture=prepared.backbone.architecture)
    runner = BackboneRunner(backbone, session.terminal.warn, distribution=prepared.extractor.runner.distribution)
    extractor = FeatureExtractor(prepared.extractor.image_dir, runner)
    examples = prepared.dataset.examples

    def read(indices: np.ndarray) -> np.ndarray:
        return compute_now([Variant(examples[index].path) for index in indices.tolist()], extractor)

    return FineTunedBackbone(extractor, head, read)
