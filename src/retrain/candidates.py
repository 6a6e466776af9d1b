"""One combination of settings, trained: its head, on the network as it is or as it was fine-tuned."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import devices
from retrain.bottlenecks import preparation
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import Gather
from retrain.config import RetrainConfig
from retrain.data import distortions
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.evaluation.tensorboard import TRAIN, VALIDATION, Summaries, summarise
from retrain.export import ClassifierWriter
from retrain.formats import frozen_graph
from retrain.head import Head
from retrain.history import ChunkResult, Evaluation, best_of, evaluations_of
from retrain.sweep import Trial
from retrain.terminal import Terminal
from retrain.training import head_training, sampling
from retrain.training.fine_tuning import fine_tune
from retrain.training.head_training import TrainedHead
from retrain.training.joint_training import Tuning
from retrain.training.recipe import HeadRecipe
from retrain.training.sampling import SamplingPlan


@dataclass(frozen=True)
class Candidate:
    """A trained head with all that it takes to export it, and every evaluation on its way.

    `read` gives bottlenecks of the backbone that the head sits on.
    """

    config: RetrainConfig
    prepared: PreparedDataset
    artefacts: ClassifierWriter
    head: Head
    read: Gather
    measured: list[Evaluation]
    summaries_dir: Path


def train_candidate(
    config: RetrainConfig, trial: Trial, prepared: PreparedDataset, strategy: Any, terminal: Terminal, opened: ExitStack
) -> Candidate:
    """Return what one combination of settings comes to."""
    scope = frozen_graph.HUB_HEAD_SCOPE if config.tfhub_module else frozen_graph.HEAD_SCOPE
    artefacts = ClassifierWriter(
        prepared.extractor.runner, prepared.dataset.class_names, config.final_tensor_name, scope
    )
    folder = config.summaries_dir / trial.name if trial.name else config.summaries_dir
    every = steps_of(config, prepared) // 25
    with Summaries(folder, head_every=every, scope=scope) as summaries:
        if prepared.extractor.distorter.distortions:
            summaries.image("distortions/first_column_undistorted", preparation.contact_sheet(prepared))
        if trial.name:
            terminal.say(f"Training {trial.name}.")
        trained, measured = _train(config, prepared, artefacts, summaries, terminal, shown=not trial.name)
        found = Candidate(config, prepared, artefacts, trained.head, prepared.read, measured, folder)
        if config.fine_tune_from is None:
            return found
        return _fine_tuned(found, trained, strategy, summaries, terminal, opened, shown=not trial.name)


def _fine_tuned(
    found: Candidate,
    trained: TrainedHead,
    strategy: Any,
    summaries: Summaries,
    terminal: Terminal,
    opened: ExitStack,
    *,
    shown: bool,
) -> Candidate:
    """Return the candidate with its network fine-tuned, or as it is where that was no improvement."""
    config, prepared = found.config, found.prepared
    measured, count = list(found.measured), len(prepared.variants.members[Split.VALIDATION])
    before = steps_of(config, prepared)

    def report(row: Tuning) -> None:
        values = (row.train_accuracy, row.train_cross_entropy, row.validation_accuracy, row.validation_cross_entropy)
        entry = Evaluation(before + row.step, *values, count)
        measured.append(entry)
        step, scores = np.array([entry.step]), np.array(values)[:, None]
        if row.step >= 0:
            summaries.measures(TRAIN, step, scores[0], scores[1])
        summaries.measures(VALIDATION, step, scores[2], scores[3])
        if shown and row.step >= 0:
            terminal.say_all(entry.lines())

    refined = fine_tune(
        prepared,
        trained.head,
        trained.scale,
        replace(_recipe(config), learning_rate=config.fine_tune_learning_rate),
        start=config.fine_tune_from or "",
        steps=config.fine_tune_steps,
        batch_size=config.fine_tune_batch_size,
        copies=config.distortion_copies,
        seed=config.random_seed,
        patience=config.early_stopping_patience,
        strategy=strategy,
        checkpoint=_beside(config.checkpoint_path, f".fine_tuning{devices.worker_suffix(strategy)}.npz"),
        terminal=terminal,
        opened=opened,
        report=report,
    )
    head_alone, best = measured[len(found.measured)], best_of(measured[len(found.measured) :])
    if refined is None:
        terminal.say(
            f"Fine-tuning did not better the validation accuracy of {head_alone.validation_accuracy:.1%} (cross "
            f"entropy {head_alone.validation_cross_entropy:.4f}): the network is exported as it was."
        )
        return replace(found, measured=measured)
    terminal.say(
        f"Fine-tuning took the validation accuracy from {head_alone.validation_accuracy:.1%} to "
        f"{best.validation_accuracy:.1%} and the cross entropy from {head_alone.validation_cross_entropy:.4f} to "
        f"{best.validation_cross_entropy:.4f} (N={count}), at step {best.step}, whose weights are kept."
    )
    artefacts = replace(found.artefacts, runner=refined.extractor.runner)
    photos = {example.path: number for number, example in enumerate(prepared.dataset.examples)}

    def read(pictures: np.ndarray) -> np.ndarray:
        return refined.read(
            np.array([photos[prepared.variants.rows[number].path] for number in pictures.tolist()], np.int64)
        )

    return replace(found, artefacts=artefacts, head=refined.head, read=read, measured=measured)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _recipe(config: RetrainConfig) -> HeadRecipe:
    return HeadRecipe(
        learning_rate=config.learning_rate,
        hidden_units=config.hidden_units,
        dropout=config.dropout,
        l2=config.l2,
        label_smoothing=config.label_smoothing,
        optimizer=config.optimizer,
        schedule=config.learning_rate_schedule,
    )


def distortions_of(config: RetrainConfig) -> Distortions:
    """Return what may happen to training images."""
    return Distortions(**{name: getattr(config, name) for name in distortions.NAMES})


def steps_of(config: RetrainConfig, prepared: PreparedDataset) -> int:
    """Return the steps to train; an epoch is as many photos as there are training photos."""
    if config.how_many_epochs is None:
        return config.how_many_training_steps
    photos = sum(prepared.dataset.counts(Split.TRAINING))
    return max(1, math.ceil(config.how_many_epochs * photos / config.train_batch_size))


def _train(
    config: RetrainConfig,
    prepared: PreparedDataset,
    artefacts: ClassifierWriter,
    summaries: Summaries,
    terminal: Terminal,
    *,
    shown: bool,
) -> tuple[TrainedHead, list[Evaluation]]:
    """Return the trained head and every evaluation on the way, after showing them as they come if `shown`."""
    pictures = prepared.variants
    drawn = sampling.plan(
        pictures.labels,
        pictures.members[Split.TRAINING],
        pictures.members[Split.VALIDATION],
        steps=steps_of(config, prepared),
        batch_size=config.train_batch_size,
        validation_batch_size=config.validation_batch_size,
        eval_step_interval=config.eval_step_interval,
        seed=config.random_seed,
        stop_every=config.intermediate_store_frequency,
    )
    measured: list[Evaluation] = []
    stops = set(drawn.stops.tolist())

    def report(segment: ChunkResult) -> None:
        summarise(summaries, segment)
        for row in evaluations_of(segment, drawn.validation.shape[1]):
            measured.append(row)
            if shown:
                terminal.say_all(row.lines())
        step = int(segment.steps[-1])
        if step in stops:
            terminal.say(f"Save intermediate result to : {intermediate_path(config, step)}")
            artefacts.write_graph(intermediate_path(config, step), segment.head)
            artefacts.write_checkpoint(config.checkpoint_path, segment.head, step + 1)

    gather, labels, drawn = _fresh(config, prepared, drawn)
    trained = head_training.train(
        gather,
        labels,
        pictures.members[Split.TRAINING],
        drawn,
        class_count=len(prepared.dataset.class_names),
        recipe=_recipe(config),
        seed=config.random_seed,
        patience=config.early_stopping_patience,
        report=report,
    )
    _say_what_was_kept(trained, len(drawn.batches), terminal)
    artefacts.write_checkpoint(config.checkpoint_path, trained.head, trained.step + 1)
    return trained, measured


def _fresh(
    config: RetrainConfig, prepared: PreparedDataset, drawn: SamplingPlan
) -> tuple[Gather, np.ndarray, SamplingPlan]:
    """Return a reader with the labels and the plan; where no copies are stored, every draw is a new distorted copy."""
    pictures = prepared.variants
    if config.distortion_copies or not prepared.extractor.distorter.distortions:
        return prepared.read, pictures.labels, drawn
    photos = drawn.batches.ravel()
    read = prepared.read.with_copies(photos, [f"draw {number}" for number in range(len(photos))])
    rows = len(pictures.labels) + np.arange(len(photos))
    labels = np.concatenate([pictures.labels, pictures.labels[photos]])
    return read, labels, replace(drawn, batches=rows.reshape(drawn.batches.shape))


def _say_what_was_kept(trained: TrainedHead, steps: int, terminal: Terminal) -> None:
    if trained.validation_accuracy is None:
        return
    early = f"Stopped after step {trained.last}. " if trained.last < steps - 1 else ""
    terminal.say(
        f"{early}Kept the weights of step {trained.step}, where the validation accuracy was best "
        f"({trained.validation_accuracy:.1%})."
    )


def intermediate_path(config: RetrainConfig, step: int) -> Path:
    """Return where the intermediate graph of a step goes."""
    return config.intermediate_output_graphs_dir / f"intermediate_{step}.pb"
