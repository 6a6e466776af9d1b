"""From a trained head to a fine-tuned network: cut, store what the frozen part gives, tune, freeze the whole again."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.backbones.families import trainable_network
from retrain.backbones.keras_networks import freeze
from retrain.backbones.loading import Backbone, load_backbone, write_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import BottleneckReader, Gather, compute_now
from retrain.bottlenecks.store import Store
from retrain.data.split import Split
from retrain.data.variants import Variant
from retrain.errors import StoreError
from retrain.graphs import freezing
from retrain.head import Head, Standardisation
from retrain.terminal import Terminal
from retrain.training import joint_training, sampling, trainable_layers
from retrain.training.joint_training import JointTraining, Tuning
from retrain.training.recipe import HeadRecipe
from retrain.training.trainable_layers import TrainableLayers

_EVALUATIONS = 20  # of a fine-tuning, about


@dataclass(frozen=True)
class FineTunedBackbone:
    """A fine-tuned backbone, frozen, with its head and what reads its bottlenecks."""

    backbone: Backbone
    extractor: FeatureExtractor
    head: Head
    read: Gather


def fine_tune(
    prepared: PreparedDataset,
    head: Head,
    scale: Standardisation,
    recipe: HeadRecipe,
    *,
    start: str,
    steps: int,
    batch_size: int,
    copies: int,
    seed: int,
    patience: int | None,
    strategy: Any,
    checkpoint: Path,
    terminal: Terminal,
    opened: ExitStack,
    report: Callable[[Tuning], None],
) -> FineTunedBackbone | None:
    """Return the network fine-tuned from a layer on, with its head; None where that was no improvement.

    Args:
        prepared: The backbone, its pictures and its photos.
        head: Trained on its bottlenecks.
        scale: What the training scaled them by.
        recipe: How to train; its learning rate is that of the fine-tuning.
        start: As in `tails.tail`.
        steps: Steps to train.
        batch_size: Images a step.
        copies: Distorted copies of each photo to draw from, 0 for a new one at every draw.
        seed: Of all draws.
        patience: As in `FineTuning.run`.
        strategy: From `devices.strategy`.
        checkpoint: A file that holds how far this got.
        terminal: Told of what happens.
        opened: Closes stores, and removes the frozen result, when it is closed itself.
        report: Told of every evaluation.

    Raises:
        RetrainError: Something that the user can mend.
    """
    with strategy.scope():
        network = trainable_network(prepared.backbone_source)
        cut = trainable_layers.split_network(network.model, start)
        tuning = JointTraining(cut, head, scale, recipe, steps=steps, seed=seed, strategy=strategy, warn=terminal.warn)
    pictures = _FrozenPartReader(prepared, network, cut, copies=copies, seed=seed, terminal=terminal, opened=opened)
    drawn = sampling.plan(
        pictures.labels, pictures.training, np.zeros(0, np.int64), steps=steps, batch_size=batch_size,
        validation_batch_size=0, eval_step_interval=steps, seed=seed,
    ).batches  # fmt: skip
    terminal.say(
        f"Fine-tuning {network.model.name} from layer {cut.name} on, {cut.model.count_params():,} parameters; "
        f"{sum(cut.sizes):,} numbers an image come from below."
    )
    own = joint_training.identity_of(
        prepared.backbone_source.fingerprint, cut.name, recipe, steps, batch_size, copies, seed,
        prepared.extractor.distorter.distortions.tag, prepared.dataset.examples, [a.tobytes() for a in _arrays(head)],
    )  # fmt: skip
    best = tuning.run(
        pictures.gather(drawn),
        pictures.rows(drawn),
        pictures.labels[drawn],
        (pictures.validation, pictures.labels[pictures.validation]),
        every=max(1, steps // _EVALUATIONS),
        patience=patience,
        checkpoint=checkpoint,
        identity=own,
        report=report,
    )
    if best.step < 0:
        return None
    return _frozen(prepared, network, tuning.head(), terminal, opened)


def _frozen(
    prepared: PreparedDataset, network: Any, head: Head, terminal: Terminal, opened: ExitStack
) -> FineTunedBackbone:
    """Return the tuned network as a backbone in a folder of its own, gone at the end."""
    folder = Path(opened.enter_context(TemporaryDirectory(dir=prepared.folder, prefix="fine_tuned_")))
    backbone = write_backbone(freeze(network), folder, architecture=prepared.backbone.architecture)
    engine = BackboneRunner(backbone, terminal.warn, distribution=prepared.extractor.runner.distribution)
    extractor = FeatureExtractor(prepared.extractor.image_dir, engine)
    examples = prepared.dataset.examples

    def read(indices: np.ndarray) -> np.ndarray:
        return compute_now([Variant(examples[index].path) for index in indices.tolist()], extractor)

    return FineTunedBackbone(backbone, extractor, head, read)


class _FrozenPartReader:
    """Reads the output of a network's frozen part: stored for photos, computed at each read for distorted copies."""

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
        self._distorted, self._copies, self._seed = bool(prepared.extractor.distorter.distortions), copies, seed
        folder = prepared.folder / f"below_{cut.name}"
        backbone = load_backbone(prepared.backbone_source, folder, build=lambda source: _below(network, cut))
        engine = BackboneRunner(backbone, terminal.warn, distribution=prepared.extractor.runner.distribution)
        extractor = replace(prepared.extractor, runner=engine, legacy_vector=lambda path: None)
        store = opened.enter_context(Store(folder, dimension=backbone.dimension))
        photos = [Variant(example.path) for example in examples]
        splits = {Split.VALIDATION} if self._distorted else {Split.TRAINING, Split.VALIDATION}
        stored = [n for n, example in enumerate(examples) if example.split in splits]
        wanted = [photos[n] for n in stored]
        known, todo = computing.missing(wanted, extractor=extractor, store=store)
        advance = terminal.progress("Below the tail", "image")
        result = computing.compute(wanted, todo, extractor=extractor, store=store, advance=advance)
        if result.rejected:
            path, reason = next(iter(result.rejected.items()))
            raise StoreError(f"{path} cannot be read any more: {reason}. Run again.")
        rows = np.full(len(photos), computing.NO_ROW, np.int64)
        rows[stored] = np.maximum(known.rows, result.rows)
        self._photos = BottleneckReader(photos, rows, extractor=extractor, store=store)

    def rows(self, drawn: np.ndarray) -> np.ndarray:
        """Return the rows to `gather` for each draw: the photo, or behind all photos a distorted copy."""
        if not self._distorted:
            return drawn
        return len(self.labels) + np.arange(drawn.size).reshape(drawn.shape)

    def gather(self, drawn: np.ndarray) -> BottleneckReader:
        """Return a reader of all photos, and behind them of the distorted copies that are drawn."""
        photos = drawn.ravel()
        if not self._distorted:
            return self._photos
        if not self._copies:
            return self._photos.with_copies(photos, [f"draw {number}" for number in range(len(photos))])
        chosen = np.random.default_rng([self._seed, 2]).integers(self._copies, size=len(photos))
        return self._photos.with_copies(photos, [str(number) for number in chosen])


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

    frozen = freezing.from_function(flat, height, width)
    return replace(frozen, input=frozen.input.filled_from(network.input))


def _arrays(head: Head) -> list[np.ndarray]:
    return [array for layer in head.layers for array in (layer.weights, layer.biases)]
