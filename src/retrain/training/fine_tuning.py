"""From a trained head to a fine-tuned network: split it, store what the frozen part gives, train, freeze the whole."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.backbones import runner
from retrain.backbones.keras_networks import keras_network
from retrain.backbones.loading import Backbone, load_backbone, write_backbone
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import FreshReader, LiveReader, Reader
from retrain.bottlenecks.store import Store
from retrain.data.split import Split
from retrain.errors import StoreError
from retrain.graphs import freezing
from retrain.head import Head
from retrain.history import Evaluation
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

    backbone: Backbone
    source: FeatureExtractor
    head: Head
    read: LiveReader


@dataclass(frozen=True)
class FineTuningResult:
    """All evaluations of a fine-tuning, the first before its first step, and the best of them.

    `network` is the fine-tuned one at the best evaluation, None where fine-tuning was no improvement.
    """

    history: Sequence[Evaluation]
    best: Evaluation
    network: FineTunedBackbone | None


def fine_tune(
    prepared: PreparedDataset,
    trained: TrainedHead,
    plan: FineTuningPlan,
    *,
    terminal: Terminal,
    opened: ExitStack,
    report: Callable[[Evaluation], None],
) -> FineTuningResult:
    """Return how the network does fine-tuned from a layer on, together with its head.

    Args:
        prepared: The backbone and its photos.
        trained: The head, trained on the backbone's bottlenecks.
        plan: Where to start, how long and how to train.
        terminal: Where to print.
        opened: Closes stores, and removes the frozen result, when it is closed itself.
        report: Gets every evaluation as it is made.

    Raises:
        RetrainError: Something that the user can mend.
    """
    with plan.strategy.scope():
        network = keras_network(prepared.recipe)
        layers = trainable_layers.split_network(network.model, plan.start)
        training = JointTraining(layers, trained.head, trained.scale, plan, warn=terminal.warn)
    data = _frozen_part_outputs(prepared, network, layers, plan, terminal=terminal, opened=opened)
    terminal.say(
        f"Fine-tuning {network.model.name} from layer {layers.name} on: {layers.model.count_params():,} parameters, "
        f"on {sum(layers.sizes):,} numbers an image from the frozen layers."
    )
    checkpoint = TrainingCheckpoint(
        plan.checkpoint, _identity(prepared, trained.head, layers.name, plan), terminal.warn
    )
    history = training.run(data, checkpoint, report)
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
    """Return what the trained layers take for every photo of the fine-tuning, computed once and stored."""
    reader = _FrozenPartReader(
        prepared, network, layers, copies=plan.copies, seed=plan.seed, terminal=terminal, opened=opened
    )
    rng = np.random.default_rng(plan.seed)
    batches = sampling.sample_batches(rng, reader.labels, reader.training, (plan.steps, plan.batch_size))
    return FineTuningData(
        reader.gather(batches),
        reader.numbered(batches),
        reader.labels[batches],
        reader.validation,
        reader.labels[reader.validation],
    )


def _identity(prepared: PreparedDataset, head: Head, layer: str, plan: FineTuningPlan) -> str:
    """Return the fingerprint of everything that decides a fine-tuning."""
    arrays = [array.tobytes() for dense in head.layers for array in (dense.weights, dense.biases)]
    return identity_of(
        prepared.recipe.fingerprint, layer, plan.recipe, plan.steps, plan.batch_size, plan.copies, plan.seed,
        prepared.source.copier.distortions.tag, prepared.dataset.examples, arrays,
    )  # fmt: skip


def _freeze(
    prepared: PreparedDataset, network: Any, head: Head, terminal: Terminal, opened: ExitStack
) -> FineTunedBackbone:
    """Return the fine-tuned network as a backbone in a folder of its own, removed at the end."""
    folder = Path(opened.enter_context(TemporaryDirectory(dir=prepared.folder, prefix="fine_tuned_")))
    frozen = freezing.from_keras(network.model, preprocess=network.preprocess)
    original = prepared.backbone
    backbone = write_backbone(frozen, folder, architecture=original.architecture, mean=original.mean, std=original.std)
    engine = runner.open_runner(backbone, terminal.warn, distribution=prepared.source.engine.distribution)
    source = FeatureExtractor(prepared.source.image_dir, engine)
    names = [example.path for example in prepared.dataset.examples]
    return FineTunedBackbone(backbone, source, head, LiveReader(names, source))


class _FrozenPartReader:
    """What the frozen part of a network makes of pictures: stored photos, and distorted copies made when drawn."""

    def __init__(
        self, prepared: PreparedDataset, network: Any, cut: TrainableLayers, *, copies: int, seed: int,
        terminal: Terminal, opened: ExitStack,
    ) -> None:  # fmt: skip
        examples = prepared.dataset.examples
        self.labels = np.array([example.class_id for example in examples], np.int64)
        self.training, self.validation = (
            np.array([n for n, example in enumerate(examples) if example.split is split], np.int64)
            for split in (Split.TRAINING, Split.VALIDATION)
        )
        self._names = [example.path for example in examples]
        self._distorted, self._copies, self._seed = bool(prepared.source.copier.distortions), copies, seed
        folder = prepared.folder / f"below_{cut.name}"
        recipe = replace(prepared.recipe, spec=network.spec)
        backbone = load_backbone(recipe, folder, frozen=lambda: _below(network, cut))
        engine = runner.open_runner(backbone, terminal.warn, distribution=prepared.source.engine.distribution)
        self._source = FeatureExtractor(prepared.source.image_dir, engine, prepared.source.copier)
        store = opened.enter_context(Store(folder, dimension=backbone.dimension))
        kept = self.validation if self._distorted else np.concatenate([self.training, self.validation])
        wanted = [self._names[number] for number in np.sort(kept)]
        known, todo = computing.missing(wanted, image_dir=self._source.image_dir, store=store)
        advance = terminal.progress("Below the tail", "image")
        found = computing.compute(wanted, todo, source=self._source, store=store, advance=advance)
        if found.rejected:
            path, reason = next(iter(found.rejected.items()))
            raise StoreError(f"{path} cannot be read any more: {reason}. Run again.")
        rows = np.full(len(examples), -1, np.int64)
        rows[np.sort(kept)] = np.maximum(known.rows, found.rows)
        self._stored = Reader(self._names, rows, source=self._source, store=store)

    def numbered(self, drawn: np.ndarray) -> np.ndarray:
        """Return what stands for each draw: the photo, or a number beyond all photos for a distorted copy."""
        if not self._distorted:
            return drawn
        return len(self._names) + np.arange(drawn.size).reshape(drawn.shape)

    def gather(self, drawn: np.ndarray) -> FreshReader:
        """Return what gives, for `numbered` draws and for photos, what the frozen part makes of them."""
        photos = drawn.ravel()
        if not self._copies:
            return FreshReader(self._stored, self._names, photos, source=self._source)
        chosen = np.random.default_rng([self._seed, 2]).integers(self._copies, size=len(photos))
        return FreshReader(self._stored, self._names, photos, source=self._source, copy=lambda draw: str(chosen[draw]))


def _below(network: Any, cut: TrainableLayers) -> freezing.FrozenGraph:
    """Return the frozen part as a graph from pixels to all that the tail takes, flat, one behind the other."""
    below = trainable_layers.frozen_part(network.model, cut)
    _, height, width, _ = network.model.input_shape

    def flat(pixels: Any) -> Any:
        import tensorflow as tf

        taken = below(network.preprocess(pixels) if network.preprocess else pixels, training=False)
        tensors = taken if isinstance(taken, list) else [taken]
        pairs = zip(tensors, cut.sizes, strict=True)
        return tf.concat([tf.reshape(tensor, [-1, size]) for tensor, size in pairs], axis=1)

    return freezing.from_function(flat, height, width)
