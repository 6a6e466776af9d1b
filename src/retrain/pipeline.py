"""`retrain(config) -> Report`: the stages in order, nothing else."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retrain import files, grouping, networks, sweep
from retrain.backbones import devices, families
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.candidates import Candidate, checkpoint_files, intermediate_files, train_candidate
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset
from retrain.data.split import Split
from retrain.errors import UsageError
from retrain.evaluation.hparams import write_hparams
from retrain.evaluation.report import Report
from retrain.features import ListedPhotos, check_split, list_photos, prepare_features, seed_of_features
from retrain.finishing import SAMPLE_IMAGES, Start, finish
from retrain.session import Heed, Session, heed_nothing
from retrain.sweep import Trial
from retrain.terminal import Terminal
from retrain.time_limit import Reserve, TimeLimit
from retrain.training import trainable_layers
from retrain.training.recipe import AUTO
from retrain.trials import Job, best_candidate

__all__ = ["RetrainConfig", "retrain"]


def retrain(
    config: RetrainConfig,
    terminal: Terminal | None = None,
    *,
    choices: Mapping[str, Sequence[Any]] | None = None,
    command: Sequence[str] = (),
    heed: Heed = heed_nothing,
    began: float | None = None,
) -> Report:
    """Train on a folder of photos, export a graph, read it back, and return the report of its accuracy.

    Args:
        config: All settings.
        terminal: Where to print; nowhere by default.
        choices: Values to try of some settings (those of `sweep.SWEEPABLE`): every combination is trained, and the one
            that is best on the validation images is exported and measured on the test images.
        command: The words that started the run, for its record.
        heed: Makes a first Ctrl-C during fine-tuning end that alone, while it is open; by default all is interrupted.
        began: When the command started, by `time.monotonic()`, for its time limit; by default now.

    Raises:
        RetrainError: The user can fix it and run again; nothing that was finished is lost.
    """
    terminal, started, limit = terminal or Terminal(quiet=True), time.time(), TimeLimit.of(config.time_limit, began)
    _check_choices(config, choices or {})
    trials = sweep.trials(choices or {})
    configs = [replace(config, **trial.values) for trial in trials]
    with ExitStack() as opened:
        opened.enter_context(files.reading_bounded(config.max_file_size))
        photos = list_photos(configs, terminal, opened)
        _introduce(photos.dataset, terminal)
        before = time.monotonic()
        session = _session(config, terminal, opened, heed)
        limit = replace(limit, tensorflow=time.monotonic() - before)
        if session.terminal is not terminal:  # not the chief's
            nowhere = Path(opened.enter_context(TemporaryDirectory()))
            configs = [_without_results(each, nowhere) for each in configs]
        photos = grouping.grouped(configs[0], photos, session)
        if config.group_by:  # which has split them again
            check_split(configs, photos.dataset)
        chosen = _best_of(trials, configs, photos, session, limit)
        report = finish(chosen, Start(started, command, limit), session.terminal)
        if not chosen.is_cut_short:
            _remove_checkpoints(trials, configs, session.strategy)
        return report


def _session(config: RetrainConfig, terminal: Terminal, opened: ExitStack, heed: Heed) -> Session:
    """Return what the trainings share; of several workers, the chief's alone has the terminal."""
    if not config.fine_tune_from:
        return Session(terminal, opened, heed=heed)
    # Workers must find each other before TensorFlow does anything else.
    strategy = devices.strategy(config.distribution)
    opened.enter_context(devices.missing_workers(strategy))
    if not devices.is_chief(strategy):
        terminal.say("The results are written by the worker that is chief.")
        terminal = Terminal(quiet=True)
    if devices.worker_suffix(strategy):
        heed = heed_nothing  # one worker that ends alone leaves the others waiting
    return Session(terminal, opened, strategy, heed=heed)


def _remove_checkpoints(trials: Sequence[Trial], configs: Sequence[RetrainConfig], strategy: Any) -> None:
    """Remove the checkpoints of fine-tunings, which a run that fails before all is written goes on from."""
    for trial, each in zip(trials, configs, strict=True):
        if each.fine_tune_from:
            intermediate_files(each, trial).fine_tuning(devices.worker_suffix(strategy)).unlink(missing_ok=True)


def _check_choices(config: RetrainConfig, choices: Mapping[str, Sequence[Any]]) -> None:
    """Refuse several values of a flag beside what they contradict."""
    if config.tfhub_module and "architecture" in choices:
        raise UsageError("--tfhub_module takes the place of --architecture, which has several values. Leave one out.")
    if AUTO in choices.get("learning_rate", ()):
        raise UsageError(f"--learning_rate {AUTO} tries several rates by itself. Give it alone, or numbers only.")


def _best_of(
    trials: Sequence[Trial],
    configs: Sequence[RetrainConfig],
    photos: ListedPhotos,
    session: Session,
    limit: TimeLimit,
) -> Candidate:
    """Prepare the photos for every combination of settings, train all, and return the best.

    Raises:
        RetrainError: Something that the user can fix.
    """
    # What all of them need comes first: it takes the time of none.
    prepared: dict[tuple[str, int], PreparedDataset] = {}
    for each in configs:
        if _key(each) not in prepared:
            prepared[_key(each)] = prepare_features(each, photos, session)
    if trials[0].name:
        write_hparams(configs[0].summaries_dir, list(trials[0].values))
    jobs = [
        Job(trial, partial(train_candidate, each, trial, prepared[_key(each)]))
        for trial, each in zip(trials, configs, strict=True)
    ]
    return best_candidate(jobs, session, limit, _reserve(configs[0], prepared, limit))


def _reserve(config: RetrainConfig, prepared: Mapping[Any, PreparedDataset], limit: TimeLimit) -> Reserve:
    """Return the time that a limit keeps for all that comes after the trainings."""
    tests = max((len(each.variants.members[Split.TESTING]) for each in prepared.values()), default=0) or SAMPLE_IMAGES
    tests = tests if config.test_batch_size < 0 else min(tests, config.test_batch_size)
    return limit.reserve(prepared.values(), is_tuned=bool(config.fine_tune_from), exports=config.export, tests=tests)


def _key(config: RetrainConfig) -> tuple[str, int]:
    """Return what the bottlenecks of a combination of settings follow from."""
    return config.architecture, seed_of_features(config)


def layers(config: RetrainConfig) -> list[str]:
    """Return what `--list_layers` prints: the layers of the network that can be trained.

    Raises:
        RetrainError: No such network, or one that cannot be trained.
    """
    check(config)
    with files.reading_bounded(config.max_file_size):
        source = networks.located(networks.spec_of(config), config, Terminal(quiet=True))
        return trainable_layers.list_layers(families.trainable_network(source).model)


def _without_results(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """Return a non-chief worker's settings: results go to a scratch folder, the state of its fine-tuning stays."""
    return replace(
        config,
        output_graph=folder / "graph.pb",
        output_labels=folder / "labels.txt",
        summaries_dir=folder / "summaries",
        intermediate_output_graphs_dir=folder,
        checkpoint_path=checkpoint_files(config).prefix,
        saved_model_dir=None,
        export=(),
        folds=0,
    )


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    images, classes = len(dataset.examples), len(dataset.class_names)
    terminal.say(f"{images} images in {classes} classes in {dataset.image_dir}: {parts}.")
    for note in dataset.notes:
        terminal.warn(note)
