"""`retrain(config) -> Report`: the stages in order, nothing else."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retrain import files, folds, results, sweep
from retrain.backbones import catalogue, devices, families, strangers
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.engines import FLOAT32, EngineRequest
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.bottlenecks import legacy_cache
from retrain.bottlenecks.preparation import PreparationSettings, PreparedDataset, match_legacy_cache, prepare
from retrain.candidates import Candidate, checkpoint_files, intermediate_files, train_candidate
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset, scan
from retrain.data.split import Split
from retrain.data.variants import Distorter
from retrain.errors import UsageError
from retrain.evaluation.hparams import write_hparams
from retrain.evaluation.report import Report
from retrain.finishing import SAMPLE_IMAGES, Start, finish
from retrain.formats import frozen_graph
from retrain.plans import check_length, distortions_of, scope_of
from retrain.preprocessing import InputSpec
from retrain.session import Heed, Session, heed_nothing
from retrain.storage.folders import RemoteFolder
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
    files.bound_reading(config.max_file_size)
    _check_choices(config, choices or {})
    trials = sweep.trials(choices or {})
    configs = [replace(config, **trial.values) for trial in trials]
    with ExitStack() as opened:
        computing = Computing(_cluster(config, terminal, opened))
        dataset, computing = _checked_dataset(config, configs, computing, terminal)
        _introduce(dataset, terminal)
        # Workers must find each other before TensorFlow does anything else.
        began = time.monotonic()
        strategy = devices.strategy(config.distribution) if config.fine_tune_from else None
        limit = replace(limit, tensorflow=time.monotonic() - began)
        if strategy is not None and not devices.is_chief(strategy):
            terminal.say("The results are written by the worker that is chief.")
            terminal = Terminal(quiet=True)
            nowhere = Path(opened.enter_context(TemporaryDirectory()))
            configs = [_without_results(each, nowhere) for each in configs]
        if strategy is not None and devices.worker_suffix(strategy):
            heed = heed_nothing  # one worker that ends alone leaves the others waiting
        session = Session(terminal, opened, strategy, heed=heed)
        chosen = _best_of(trials, configs, (dataset, computing), session, limit)
        report = finish(chosen, Start(started, command, limit), terminal)
        if not chosen.is_cut_short:
            _remove_checkpoints(trials, configs, strategy)
        return report


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


@dataclass(frozen=True)
class Computing:
    """What computes features in shards, None for this process as they come; and how long the photos' listing took."""

    cluster: Any
    listing: float = 0.0


def _checked_dataset(
    config: RetrainConfig, configs: Sequence[RetrainConfig], computing: Computing, terminal: Terminal
) -> tuple[Dataset, Computing]:
    """Return the data set, with all refused before the work that settings can be refused for; `configs` are trained.

    A cluster computes already while a remote folder is listed.

    Raises:
        RetrainError: Says what is wrong.
    """
    for each in configs:
        _check_settings(each)
    started = time.monotonic()
    is_ahead = config.cluster and isinstance(config.image_dir, RemoteFolder) and not config.fine_tune_from
    scanned = _scanned_ahead(configs[0], computing, terminal) if is_ahead else None
    dataset = scanned or scan(config.image_dir, config.split_rule)
    computing = replace(computing, listing=time.monotonic() - started)
    for each in configs:
        check_length(each, dataset)
        folds.check(each, dataset)
    _check_validation(config, dataset, several=len(configs) > 1)
    results.check(config)
    return dataset, computing


def _scanned_ahead(config: RetrainConfig, computing: Computing, terminal: Terminal) -> Dataset | None:
    """Return the data set, after its listing and the computing of features that began with it."""
    # Imported late: most runs have nothing to do with clusters.
    from retrain.bottlenecks import ahead

    results.check(config)
    copies = config.distortion_copies if distortions_of(config) else 0
    listing = ahead.Listing(config.image_dir, config.split_rule, copies=copies)
    first = listing.first()
    network = config.tfhub_module or config.architecture
    # Features of the original's rule which network it is, once all photos are known.
    if first and legacy_cache.find(config.store_dir, config.image_dir, first, network) is None:
        source = _located(_spec(config), config, terminal)
        ahead.compute(listing, source, _preparation(config, computing), terminal)
    return listing.dataset()


def _best_of(
    trials: Sequence[Trial],
    configs: Sequence[RetrainConfig],
    photos: tuple[Dataset, Computing],
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
            prepared[_key(each)] = _prepare(each, *photos, session)
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
    return config.architecture, _seed_of_features(config)


def layers(config: RetrainConfig) -> list[str]:
    """Return what `--list_layers` prints: the layers of the network that can be trained.

    Raises:
        RetrainError: No such network, or one that cannot be trained.
    """
    check(config)
    files.bound_reading(config.max_file_size)
    source = families.locate(_spec(config), WeightsRequest(config.model_dir, config.weights, config.random_seed))
    strangers.judge(source)
    return trainable_layers.list_layers(families.trainable_network(source).model)


def _check_settings(config: RetrainConfig) -> None:
    """Refuse settings that make no sense, and a network that is not known."""
    check(config)
    frozen_graph.check_output(config.final_tensor_name, scope=scope_of(config), layers=len(config.hidden_units) + 1)
    _spec(config)
    _check_cluster(config)
    precision = EngineRequest(config.engine, config.precision).precision
    if config.fine_tune_from and precision != FLOAT32:
        raise UsageError(f"--fine_tune_from trains in float32, not in {precision}. Leave --precision out.")
    if config.fine_tune_from and config.time_limit is not None and config.distribution == "multi_worker":
        # Their clocks differ, and a worker that takes a step alone waits for ever.
        raise UsageError("--time_limit cannot end several workers at the same step. Give --fine_tune_steps instead.")


def _check_cluster(config: RetrainConfig) -> None:
    fewest, most = config.cluster_min, config.cluster_max
    if config.cluster is None and (fewest, most) != (None, None):
        raise UsageError("--cluster_min and --cluster_max are numbers of workers of a cluster. Give --cluster, too.")
    if fewest is not None and most is not None and fewest > most:
        raise UsageError(f"--cluster_min {fewest} is more than --cluster_max {most}.")
    if config.cluster is not None:
        # Imported late: most runs have nothing to do with clusters.
        from retrain.cluster.starting import check_address, require_ray

        check_address(config.cluster)
        require_ray()


def _cluster(config: RetrainConfig, terminal: Terminal, opened: ExitStack) -> Any:
    """Return what computes features in shards, None where this process computes them as they come."""
    # Imported late: most runs have nothing to do with clusters.
    if config.cluster is not None:
        from retrain.cluster.opening import ClusterRequest, LazyCluster

        request = ClusterRequest(config.cluster, config.cluster_min, config.cluster_max)
        return LazyCluster(request, terminal, opened)
    if isinstance(config.bottleneck_dir, RemoteFolder):
        from retrain.cluster.here import Here

        return Here()
    return None


def _prepare(config: RetrainConfig, dataset: Dataset, computing: Computing, session: Session) -> PreparedDataset:
    terminal = session.terminal
    spec, network = _spec(config), config.tfhub_module or config.architecture
    photos = [example.path for example in dataset.examples]
    legacy = legacy_cache.find(config.store_dir, config.image_dir, photos, network)
    if legacy and not _computes_what_its_name_says(config, spec):
        legacy = legacy.without_files("of this network with its own input, weights and features")
    if config.bottleneck_tensor is None:
        spec = match_legacy_cache(spec, legacy, len(photos), terminal)
    source = _located(spec, config, terminal)
    if config.fine_tune_from:
        # An unknown layer fails here, before anything is computed.
        trainable_layers.split_network(families.trainable_network(source).model, config.fine_tune_from)
    settings = _preparation(config, computing)
    return prepare(dataset, source, settings, legacy, terminal=terminal, opened=session.opened)


def _located(spec: BackboneSpec, config: RetrainConfig, terminal: Terminal) -> BackboneSource:
    """Return where a network's weights are, downloaded and trusted."""
    advance = terminal.progress("Downloading the backbone", "B")
    source = families.locate(spec, WeightsRequest(config.model_dir, config.weights, config.random_seed, advance))
    strangers.judge(source)
    return source


def _preparation(config: RetrainConfig, computing: Computing) -> PreparationSettings:
    distorter = Distorter(distortions_of(config), config.random_seed)
    return PreparationSettings(
        config.store_dir,
        distorter,
        copies=config.distortion_copies if distorter.distortions else 0,
        distribution="none" if config.distribution == "none" else "mirrored",
        request=EngineRequest(config.engine, config.precision),
        cluster=computing.cluster,
        parts=config.bottleneck_dir,
        listing=computing.listing,
    )


def _seed_of_features(config: RetrainConfig) -> int:
    """Return the seed where bottlenecks follow from it, 0 where every seed has the same."""
    return config.random_seed if distortions_of(config) or config.weights == catalogue.RANDOM else 0


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


def _check_validation(config: RetrainConfig, dataset: Dataset, *, several: bool) -> None:
    """Refuse what chooses by validation images where there are none."""
    choosing = {
        f"--learning_rate {AUTO}": config.learning_rate == AUTO,
        "--early_stopping_patience": config.early_stopping_patience is not None,
        "--fine_tune_from": config.fine_tune_from is not None,
        "a flag with several values": several,
    }
    asked = [flag for flag, wanted in choosing.items() if wanted]
    if asked and not sum(dataset.counts(Split.VALIDATION)):
        raise UsageError(
            f"{asked[0]} chooses by validation images, and there are none. Give --validation_percentage, or make a "
            f"folder validation/ beside train/."
        )


def _spec(config: RetrainConfig) -> BackboneSpec:
    """Return the backbone's row with the user's own values in it."""
    return catalogue.select(
        config.architecture,
        tfhub_module=config.tfhub_module,
        image_size=config.image_size,
        network_input=InputSpec(
            config.input_layer,
            config.input_height,
            config.input_width,
            config.input_mean,
            config.input_std,
            config.keep_aspect_ratio,
        ),
        target=config.bottleneck_tensor,
    )


def _computes_what_its_name_says(config: RetrainConfig, spec: BackboneSpec) -> bool:
    """Return whether a backbone is the one of its name: another size, range, tensor or weights give other features."""
    network, hub = config.architecture, config.tfhub_module
    named = catalogue.select(network, tfhub_module=hub, image_size=None, network_input=InputSpec(), target=None)
    targets = (named.target, named.original_target)
    return spec.input == named.input and spec.target in targets and config.weights in (None, catalogue.OFFICIAL)


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    images, classes = len(dataset.examples), len(dataset.class_names)
    terminal.say(f"{images} images in {classes} classes in {dataset.image_dir}: {parts}.")
    for note in dataset.notes:
        terminal.warn(note)
