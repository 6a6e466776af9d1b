"""`retrain(config) -> Report`: the stages in order, nothing else."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain import export, files, sweep
from retrain.backbones import catalogue, devices
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.keras_networks import check_trainable, keras_network
from retrain.backbones.sources import BackboneSource, locate
from retrain.bottlenecks.preparation import PreparedDataset, prepare
from retrain.candidates import Candidate, distortions_of, intermediate_path, steps_of, train_candidate
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset, scan
from retrain.data.split import Split
from retrain.data.variants import Distorter, Variants, photo_of
from retrain.errors import ExportError, UsageError
from retrain.evaluation import comparison, metrics, tensorboard
from retrain.evaluation.comparison import ExportReport, FormatResult, export_and_compare
from retrain.evaluation.metrics import misclassified
from retrain.evaluation.report import Report, closing_lines, report_paths, write_report
from retrain.evaluation.tensorboard import TRAIN, Summaries, write_hparams
from retrain.formats import saved_model
from retrain.formats import table as format_table
from retrain.formats.table import ExportSource
from retrain.graphs import reading
from retrain.sweep import Trial, TrialResult
from retrain.terminal import Terminal
from retrain.training import sampling, trainable_layers

__all__ = ["RetrainConfig", "retrain"]
_NO_SETTINGS = ("architecture", "learning_rate", "random_seed", "export", "max_accuracy_drop")  # or said elsewhere
_SHOWN = 200  # training images that show 8-bit arithmetic what flows between layers


def retrain(
    config: RetrainConfig, terminal: Terminal | None = None, *, choices: Mapping[str, Sequence[Any]] | None = None
) -> Report:
    """Return the report of a training: photos in, an exported graph that was loaded again and measured out.

    Args:
        config: All settings.
        terminal: Where to print; nowhere by default.
        choices: Values to try of some settings (those of `sweep.NAMED`): every combination is trained, and the one
            that is best on the validation images is exported and measured on the test images.

    Raises:
        RetrainError: Anything that the user can mend; nothing that was finished is lost by running again.
    """
    terminal = terminal or Terminal(quiet=True)
    trials = sweep.trials(choices or {})
    configs = [replace(config, **trial.values) for trial in trials]
    for each in configs:
        check(each)
        spec = _spec(each)
        if each.fine_tune_from:
            check_trainable(spec)
    dataset = scan(
        config.image_dir,
        validation_percentage=config.validation_percentage,
        testing_percentage=config.testing_percentage,
    )
    _check_validation(config, dataset, several=len(trials) > 1)
    _check_results(config)
    _introduce(dataset, terminal)
    # Workers must find each other before TensorFlow does anything else.
    strategy = devices.strategy(config.distribution) if config.fine_tune_from else None
    with ExitStack() as opened:
        if strategy is not None and not devices.is_chief(strategy):
            terminal.say("The results are written by the worker that is chief.")
            terminal = Terminal(quiet=True)
            nowhere = Path(opened.enter_context(TemporaryDirectory()))
            configs = [_elsewhere(each, nowhere) for each in configs]
        if len(trials) > 1:
            write_hparams(configs[0].summaries_dir, {trial.name: trial.shown() for trial in trials})
        prepared: dict[tuple[str, int], PreparedDataset] = {}
        candidates, results = [], []
        for trial, each in zip(trials, configs, strict=True):
            key = (each.architecture, _seed_of_features(each))
            if key not in prepared:
                prepared[key] = _prepare(each, dataset, terminal, opened)
            started = time.perf_counter()
            candidates.append(train_candidate(each, trial, prepared[key], strategy, terminal, opened))
            if len(trials) > 1:
                results.append(_ranked(trial, candidates[-1], time.perf_counter() - started))
        chosen = candidates[sweep.ranking(results)[0] if results else 0]
        for line in sweep.table(results) if results else ():
            terminal.say(line)
        return _finish(chosen, terminal)


def layers(config: RetrainConfig) -> list[str]:
    """Return what `--list_layers` prints: the layers of the network that can be trained.

    Raises:
        RetrainError: No such network, or one that is frozen.
    """
    check(config)
    recipe = locate(_spec(config), model_dir=config.model_dir, weights=config.weights, seed=config.random_seed)
    return trainable_layers.list_layers(keras_network(recipe).model)


def _prepare(config: RetrainConfig, dataset: Dataset, terminal: Terminal, opened: ExitStack) -> PreparedDataset:
    copier = Distorter(distortions_of(config), config.random_seed)

    def has_the_layer(recipe: BackboneSource) -> None:
        if config.fine_tune_from:
            trainable_layers.split_network(keras_network(recipe).model, config.fine_tune_from)

    return prepare(
        dataset,
        _spec(config),
        network=config.tfhub_module or config.architecture,
        own_tensor=config.bottleneck_tensor is not None,
        bottleneck_dir=config.bottleneck_dir,
        model_dir=config.model_dir,
        weights=config.weights,
        seed=config.random_seed,
        copier=copier,
        copies=config.distortion_copies if copier.distortions else 0,
        distribution="none" if config.distribution == "none" else "mirrored",
        check=has_the_layer,
        terminal=terminal,
        opened=opened,
    )


def _seed_of_features(config: RetrainConfig) -> int:
    """Return the seed where bottlenecks follow from it, 0 where every seed has the same."""
    return config.random_seed if distortions_of(config) or config.weights == catalogue.RANDOM else 0


def _elsewhere(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """Return the settings of a worker whose results nobody needs; where it was stopped it must know itself."""
    return replace(
        config,
        output_graph=folder / "graph.pb",
        output_labels=folder / "labels.txt",
        summaries_dir=folder / "summaries",
        intermediate_output_graphs_dir=folder,
        saved_model_dir=None,
        export=(),
    )


def _ranked(trial: Trial, candidate: Candidate, seconds: float) -> TrialResult:
    """Return how good a candidate is on all validation images."""
    shown = candidate.prepared.views
    members = shown.members[Split.VALIDATION]
    probabilities = export.score_bottlenecks(
        candidate.head.probabilities, candidate.read, members, len(candidate.prepared.dataset.class_names)
    )
    labels = shown.labels[members]
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return TrialResult(
        trial.name,
        right / len(members) if len(members) else 0.0,
        metrics.cross_entropy(probabilities, labels) if len(members) else math.inf,
        metrics.wilson_interval(right, len(members)),
        seconds,
        candidate.artefacts.size(candidate.head),
    )


def _finish(chosen: Candidate, terminal: Terminal) -> Report:
    """Write everything, measure what was written on the test images, and report."""
    config, prepared = chosen.config, chosen.prepared
    testing, truths = _testing(config, prepared.views)
    scored = chosen.artefacts.write(
        config.output_graph, config.output_labels, chosen.head, read=chosen.read, testing=testing, truths=truths
    )
    shown = tensorboard.sketch(reading.read_graph(config.output_graph), scope=chosen.artefacts.backbone.architecture)
    with Summaries(chosen.summaries_dir, runs=(TRAIN,), part=".graph") as summaries:
        summaries.graph(shown.SerializeToString())
    if config.saved_model_dir:
        chosen.artefacts.write_saved_model(config.saved_model_dir, config.output_graph)
    delivered = _delivered(chosen, testing, truths, terminal) if config.export else None
    checked = [delivered.graph, *delivered.checked] if delivered else []
    report = _report(chosen, scored, testing, checked)
    write_report(report, config.output_graph, prepared.dataset.image_dir)
    terminal.say_all(closing_lines(report, misclassified=config.print_misclassified_test_images))
    _say_what_was_written(config, checked, lite=chosen.artefacts.engine.model is not None, terminal=terminal)
    if delivered:
        for line in comparison.table(delivered.graph, delivered.checked):
            terminal.say(line)
        if delivered.problems:
            raise ExportError(f"{'; '.join(delivered.problems)}. All other results are written, and files are kept.")
    return report


def _delivered(chosen: Candidate, testing: np.ndarray, truths: np.ndarray, terminal: Terminal) -> ExportReport:
    """Return what the formats that were asked for are worth, after writing them."""
    config, prepared = chosen.config, chosen.prepared
    shown = prepared.views
    drawn = sampling.sample(shown.labels, shown.members[Split.TRAINING], size=_SHOWN, seed=config.random_seed)
    photos = list(dict.fromkeys(photo_of(shown.names[index]) for index in drawn.tolist()))
    tested = [shown.names[index] for index in testing.tolist()]
    return export_and_compare(
        config.export,
        ExportSource(config.output_graph, lambda: prepared.source.pictures(photos)),
        images=[prepared.dataset.image_dir / path for path in tested or photos],
        labels=truths if tested else None,
        max_drop=config.max_accuracy_drop,
        advance=terminal.progress("Exporting", "format"),
    )


def _check_validation(config: RetrainConfig, dataset: Dataset, *, several: bool) -> None:
    """Refuse what chooses by validation images where there are none."""
    choosing = {
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


def _check_results(config: RetrainConfig) -> None:
    """Fail now, not after the training, where a result cannot be written."""
    written = [config.output_graph, config.output_labels, *report_paths(config.output_graph), config.checkpoint_path]
    if config.intermediate_store_frequency:
        written.append(intermediate_path(config, 0))
    files.check_writable(*written)
    if config.saved_model_dir:
        saved_model.check(config.saved_model_dir)
    format_table.check_targets(config.output_graph, config.export)


def _say_what_was_written(
    config: RetrainConfig, checked: Sequence[FormatResult], *, lite: bool, terminal: Terminal
) -> None:
    page, _ = report_paths(config.output_graph)
    written = [
        config.output_graph,
        *([format_table.litert_path(config.output_graph)] if lite else []),
        config.output_labels,
    ]
    written += [config.saved_model_dir] if config.saved_model_dir else []
    written = list(dict.fromkeys([*written, *(row.path for row in checked)]))
    terminal.say(f"Wrote {', '.join(str(path) for path in written)} and {page}.")
    terminal.say(f"Label a photo:  label_image --graph {config.output_graph} PHOTO.jpg")
    terminal.say(f"See the curves: tensorboard --logdir {config.summaries_dir}")


def _spec(config: RetrainConfig) -> BackboneSpec:
    """Return the backbone's row with the user's own values in it."""
    if config.tfhub_module is not None:
        spec = catalogue.from_hub(config.tfhub_module)
    else:
        spec = catalogue.find(config.architecture)
    if config.image_size is not None:
        spec = catalogue.sized(spec, config.image_size)
    own: dict[str, Any] = {
        "source": config.input_layer,
        "target": config.bottleneck_tensor,
        "height": config.input_height,
        "width": config.input_width,
        "mean": config.input_mean,
        "std": config.input_std,
    }
    return replace(spec, **{name: value for name, value in own.items() if value is not None})


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    terminal.say(
        f"{len(dataset.examples)} images in {len(dataset.class_names)} classes in {dataset.image_dir}: {parts}."
    )
    for note in dataset.notes:
        terminal.warn(note)


def _testing(config: RetrainConfig, shown: Variants) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the test images that count, int64 [n], and their class ids."""
    testing = shown.members[Split.TESTING]
    testing = sampling.sample(shown.labels, testing, size=config.test_batch_size, seed=config.random_seed)
    return testing, shown.labels[testing]


def _chosen(config: RetrainConfig) -> dict[str, object]:
    """Return the settings that differ from their defaults, places of files left out."""
    given = {field.name: getattr(config, field.name) for field in fields(config) if field.default is not MISSING}
    default = {field.name: field.default for field in fields(config)}
    shown = {n: value for n, value in given.items() if value != default[n] and not isinstance(value, Path)}
    return {n: value for n, value in shown.items() if n not in _NO_SETTINGS}


def _report(
    chosen: Candidate, probabilities: np.ndarray, testing: np.ndarray, checked: Sequence[FormatResult]
) -> Report:
    config, prepared = chosen.config, chosen.prepared
    dataset, labels = prepared.dataset, prepared.views.labels[testing]
    confusion = metrics.confusion_matrix(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    names = dataset.class_names
    return Report(
        architecture=config.tfhub_module or config.architecture,
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        steps=steps_of(config, prepared),
        learning_rate=config.learning_rate,
        random_seed=config.random_seed,
        settings=_chosen(config),
        test_accuracy=metrics.accuracy(probabilities, labels) if len(testing) else None,
        test_cross_entropy=metrics.cross_entropy(probabilities, labels) if len(testing) else None,
        test_interval=metrics.wilson_interval(len(testing) - len(wrong), len(testing)),
        test_count=len(testing),
        class_figures=metrics.class_figures(confusion),
        confusion=confusion.tolist(),
        misclassified=misclassified([prepared.views.names[i] for i in testing], names, probabilities, labels),
        rejected=prepared.rejected,
        notes=dataset.notes,
        measured=chosen.history,
        exports=checked,
    )
