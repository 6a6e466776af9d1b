"""`retrain(config) -> Report`: the stages in order, nothing else."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain import files, folds, results, sweep
from retrain.backbones import catalogue, devices, families, quantized, strangers
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.engines import FLOAT32, INT8, EngineRequest
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks import legacy_cache
from retrain.bottlenecks.preparation import PreparationSettings, PreparedDataset, match_legacy_cache, prepare
from retrain.candidates import (
    Candidate,
    check_length,
    checkpoint_files,
    distortions_of,
    intermediate_files,
    scope_of,
    train_candidate,
)
from retrain.closing import Closing
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset, scan
from retrain.data.split import Split
from retrain.data.variants import Distorter, Variant
from retrain.errors import ExportError, UsageError
from retrain.evaluation import comparison, keeping, runs, tensorboard
from retrain.evaluation import report as reports
from retrain.evaluation.comparison import Comparison, ExportReport, export_and_compare
from retrain.evaluation.keeping import RunOrigin
from retrain.evaluation.report import Report, RunSettings, TestScores
from retrain.evaluation.tensorboard import TRAIN, Summaries, write_hparams
from retrain.export import WrittenGraph
from retrain.formats import frozen_graph
from retrain.formats import table as formats
from retrain.formats.classifier import ExportSource
from retrain.preprocessing import InputSpec
from retrain.session import Heed, Session, heed_nothing
from retrain.sweep import Trial
from retrain.terminal import Terminal
from retrain.time_limit import Reserve, TimeLimit
from retrain.training import sampling, trainable_layers
from retrain.training.recipe import AUTO
from retrain.trials import Job, best_candidate

__all__ = ["RetrainConfig", "retrain"]

# Settings that the report has in another place, or not at all.
_ELSEWHERE = ("architecture", "learning_rate", "random_seed", "export", "max_accuracy_drop", "run_name", "folds")
_SAMPLE_IMAGES = 200  # training images that show 8-bit arithmetic the range of activations


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
    dataset = _checked_dataset(config, configs)
    _introduce(dataset, terminal)
    # Workers must find each other before TensorFlow does anything else.
    began = time.monotonic()
    strategy = devices.strategy(config.distribution) if config.fine_tune_from else None
    limit = replace(limit, tensorflow=time.monotonic() - began)
    with ExitStack() as opened:
        if strategy is not None and not devices.is_chief(strategy):
            terminal.say("The results are written by the worker that is chief.")
            terminal = Terminal(quiet=True)
            nowhere = Path(opened.enter_context(TemporaryDirectory()))
            configs = [_without_results(each, nowhere) for each in configs]
        if strategy is not None and devices.worker_suffix(strategy):
            heed = heed_nothing  # one worker that ends alone leaves the others waiting
        session = Session(terminal, opened, strategy, heed=heed)
        chosen = _best_of(trials, configs, dataset, session, limit)
        report = _finish(chosen, _Start(started, command, limit), terminal)
        # Kept until everything is written: a run that failed meanwhile fine-tunes nothing again.
        for trial, each in zip(trials, configs, strict=True):
            if each.fine_tune_from and not chosen.is_cut_short:
                suffix = devices.worker_suffix(strategy)
                intermediate_files(each, trial).fine_tuning(suffix).unlink(missing_ok=True)
        return report


def _check_choices(config: RetrainConfig, choices: Mapping[str, Sequence[Any]]) -> None:
    """Refuse several values of a flag beside what they contradict."""
    if config.tfhub_module and "architecture" in choices:
        raise UsageError("--tfhub_module takes the place of --architecture, which has several values. Leave one out.")
    if AUTO in choices.get("learning_rate", ()):
        raise UsageError(f"--learning_rate {AUTO} tries several rates by itself. Give it alone, or numbers only.")


def _checked_dataset(config: RetrainConfig, configs: Sequence[RetrainConfig]) -> Dataset:
    """Return the data set, with all refused before the work that settings can be refused for; `configs` are trained.

    Raises:
        RetrainError: Says what is wrong.
    """
    for each in configs:
        _check_settings(each)
    dataset = scan(config.image_dir, config.split_rule)
    for each in configs:
        check_length(each, dataset)
        folds.check(each, dataset)
    _check_validation(config, dataset, several=len(configs) > 1)
    results.check(config)
    return dataset


def _best_of(
    trials: Sequence[Trial], configs: Sequence[RetrainConfig], dataset: Dataset, session: Session, limit: TimeLimit
) -> Candidate:
    """Prepare the photos for every combination of settings, train all, and return the best.

    Raises:
        RetrainError: Something that the user can fix.
    """
    # What all of them need comes first: it takes the time of none.
    prepared: dict[tuple[str, int], PreparedDataset] = {}
    for each in configs:
        if _key(each) not in prepared:
            prepared[_key(each)] = _prepare(each, dataset, session.terminal, session.opened)
    if trials[0].name:
        write_hparams(configs[0].summaries_dir, list(trials[0].values))
    jobs = [
        Job(trial, partial(train_candidate, each, trial, prepared[_key(each)]))
        for trial, each in zip(trials, configs, strict=True)
    ]
    return best_candidate(jobs, session, limit, _reserve(configs[0], prepared, limit))


def _reserve(config: RetrainConfig, prepared: Mapping[Any, PreparedDataset], limit: TimeLimit) -> Reserve:
    """Return the time that a limit keeps for all that comes after the trainings."""
    tests = max((len(each.variants.members[Split.TESTING]) for each in prepared.values()), default=0) or _SAMPLE_IMAGES
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
    precision = EngineRequest(config.engine, config.precision).precision
    if config.fine_tune_from and precision != FLOAT32:
        raise UsageError(f"--fine_tune_from trains in float32, not in {precision}. Leave --precision out.")
    if config.fine_tune_from and config.time_limit is not None and config.distribution == "multi_worker":
        # Their clocks differ, and a worker that takes a step alone waits for ever.
        raise UsageError("--time_limit cannot end several workers at the same step. Give --fine_tune_steps instead.")


def _prepare(config: RetrainConfig, dataset: Dataset, terminal: Terminal, opened: ExitStack) -> PreparedDataset:
    spec, network = _spec(config), config.tfhub_module or config.architecture
    photos = [example.path for example in dataset.examples]
    legacy = legacy_cache.find(config.bottleneck_dir, config.image_dir, photos, network)
    if legacy and not _computes_what_its_name_says(config, spec):
        legacy = legacy.without_files("of this network with its own input, weights and features")
    if config.bottleneck_tensor is None:
        spec = match_legacy_cache(spec, legacy, len(photos), terminal)
    advance = terminal.progress("Downloading the backbone", "B")
    source = families.locate(spec, WeightsRequest(config.model_dir, config.weights, config.random_seed, advance))
    strangers.judge(source)
    if config.fine_tune_from:
        # An unknown layer fails here, before anything is computed.
        trainable_layers.split_network(families.trainable_network(source).model, config.fine_tune_from)
    distorter = Distorter(distortions_of(config), config.random_seed)
    settings = PreparationSettings(
        config.bottleneck_dir,
        distorter,
        copies=config.distortion_copies if distorter.distortions else 0,
        distribution="none" if config.distribution == "none" else "mirrored",
        request=EngineRequest(config.engine, config.precision),
    )
    return prepare(dataset, source, settings, legacy, terminal=terminal, opened=opened)


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
        folds=None,
    )


@dataclass(frozen=True)
class _Start:
    """When a run started, in seconds since 1970, by which words, and when it should end."""

    time: float
    command: Sequence[str]
    limit: TimeLimit


def _finish(chosen: Candidate, start: _Start, terminal: Terminal) -> Report:
    """Write everything, measure the written graph on the test images, and report."""
    config, prepared = chosen.config, chosen.prepared
    rows = _sample(chosen, Split.TESTING, config.test_batch_size)
    test = chosen.labelled(rows, chosen.read_exactly)
    paths = [prepared.variants.rows[row].path for row in test.rows.tolist()]
    cross_validated = folds.cross_validate(chosen, terminal) if config.folds else None
    chosen.artefacts.write_checkpoint(checkpoint_files(config), chosen.head, chosen.step + 1)
    with files.draft_folder(config.output_graph) as folder:
        draft = folder / config.output_graph.name
        with terminal.waiting("Writing the graph"):
            written = chosen.artefacts.write(draft, chosen.head, test)
        # Only a graph that passed takes the place of the last one.
        chosen.artefacts.put_in_place(draft, config.output_graph, config.output_labels)
        _show_graph(chosen, written)
        if config.saved_model_dir:
            chosen.artefacts.write_saved_model(config.saved_model_dir, written)
        scores = TestScores(paths, written.probabilities, test.labels, written.sha256)
        exported = _export(chosen, draft, written, scores, terminal) if config.export else None
    report = reports.make_report(
        _run_settings(chosen),
        prepared.dataset,
        scores,
        rejected=prepared.rejected,
        history=chosen.history,
        exports=exported.results if exported else [],
    )
    report = replace(report, cross_validation=cross_validated)
    figures = reports.write_report(report, config.output_graph, prepared.dataset.image_dir)
    folder, origin = runs.folder_of(config.output_graph), _origin(chosen, start, written)
    keeping.keep_run(folder, config.run_name, (report, figures), scores, curves=chosen.curves, origin=origin)
    with terminal.closing(_closing(chosen, report)):
        _say_what_does_not_belong(chosen, report, written, terminal)
        if (seconds := start.limit.exceeded()) >= 1:
            terminal.warn(f"All this took {seconds:.0f} s more than --time_limit.")
        if exported:
            terminal.say_all(comparison.table(exported.results))
            if exported.problems:
                raise ExportError(f"{'; '.join(exported.problems)}. All other results are written, and files are kept.")
    return report


def _origin(chosen: Candidate, start: _Start, written: WrittenGraph) -> RunOrigin:
    values = {field: getattr(chosen.config, field.name) for field in fields(chosen.config) if field.name != "image_dir"}
    changed = {field.name: value for field, value in values.items() if value != field.default}
    tensorflow = written.metadata.tensorflow_version
    return RunOrigin(start.time, start.command, chosen.prepared.dataset.image_dir, changed, tensorflow)


def _sample(chosen: Candidate, split: Split, size: int) -> np.ndarray:
    """Return the indices int64 [n] of photos of a split: a sample, or all for -1."""
    variants = chosen.prepared.variants
    return sampling.sample(variants.labels, variants.members[split], size=size, seed=chosen.config.random_seed)


def _show_graph(chosen: Candidate, written: WrittenGraph) -> None:
    """Show the graph on TensorBoard."""
    sketch = tensorboard.sketch(written.graph_def, scope=chosen.artefacts.backbone.architecture)
    with Summaries(chosen.summaries_dir, runs=(TRAIN,), part=".graph") as summaries:
        summaries.graph(sketch.SerializeToString(deterministic=True))


def _export(
    chosen: Candidate, draft: Path, written: WrittenGraph, test: TestScores, terminal: Terminal
) -> ExportReport:
    """Write the formats of --export beside the draft of the graph, put them in place, and return how they compare."""
    config, prepared = chosen.config, chosen.prepared
    in_place = (draft, formats.path_of(draft, "tflite"))

    def put_in_place(path: Path) -> Path:
        result = config.output_graph.with_name(path.name)
        return result if path in in_place else formats.put_in_place(path, result)

    rows = _sample(chosen, Split.TRAINING, _SAMPLE_IMAGES).tolist()
    photos = list(dict.fromkeys(prepared.variants.rows[row].path for row in rows))
    images = [prepared.dataset.image_dir / path for path in test.paths or photos]
    samples = [Variant(path) for path in photos]
    exported = export_and_compare(
        config.export,
        ExportSource(
            written.graph_def,
            written.metadata,
            written.sha256,
            sample_images=lambda: prepared.extractor.pixels(samples),
            int8=chosen.artefacts.int8_classifier(chosen.head, quantized.path_of(prepared.backbone))
            if config.precision == INT8
            else None,
        ),
        draft,
        Comparison(images, test.labels if test.paths else None, config.max_accuracy_drop),
        put_in_place=put_in_place,
        advance=terminal.progress("Exporting", "format"),
    )
    beside = str(config.output_graph.parent)
    return replace(exported, problems=[problem.replace(str(draft.parent), beside) for problem in exported.problems])


def _run_settings(chosen: Candidate) -> RunSettings:
    """Return the settings of the run: those without a field of their own only if changed, and no paths."""
    config = chosen.config
    others = {field: getattr(config, field.name) for field in fields(config) if field.name not in _ELSEWHERE}
    changed = {f.name: value for f, value in others.items() if value != f.default and not isinstance(value, Path)}
    if config.fine_tune_from:
        changed["fine_tune_steps"] = chosen.history[-1].step + 1 - chosen.steps
    architecture = config.tfhub_module or config.architecture
    return RunSettings(architecture, chosen.steps, float(config.learning_rate), config.random_seed, changed)


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


def _closing(chosen: Candidate, report: Report) -> Closing:
    """Return what a run says at its end."""
    config = chosen.config
    page, _ = reports.report_paths(config.output_graph)
    litert = [formats.path_of(config.output_graph, "tflite")] if chosen.artefacts.runner.model else []
    saved_model_dir = [config.saved_model_dir] if config.saved_model_dir else []
    written = [config.output_graph, *litert, config.output_labels, *saved_model_dir]
    written += [row.path for row in report.exports]
    return Closing(
        reports.result_line(report),
        [
            *reports.cross_validation_lines(report),
            *(reports.misclassified_lines(report) if config.print_misclassified_test_images else []),
        ],
        list(dict.fromkeys(written)),
        page,
        config.output_graph,
        config.summaries_dir,
        _words_of_runs(config),
    )


def _words_of_runs(config: RetrainConfig) -> list[str]:
    """Return the sub-command that lists this run and those before it."""
    default = next(each.default for each in fields(config) if each.name == "output_graph")
    return ["runs"] if config.output_graph == default else ["runs", "--output_graph", str(config.output_graph)]


def _say_what_does_not_belong(chosen: Candidate, report: Report, written: WrittenGraph, terminal: Terminal) -> None:
    """Warn of files beside the graph that are of another training: of one at the same time, or of an earlier one."""
    graph = chosen.config.output_graph
    if not graph.is_file() or files.sha256_of(graph) != written.sha256:
        terminal.warn(
            f"Another run wrote {graph} meanwhile: what lies beside it may be of either. Run one after another."
        )
        return
    names = {row.name for row in report.exports} | ({"tflite"} if chosen.artefacts.runner.model else set())
    stale = formats.stale_exports(graph, written.metadata, names)
    if stale:
        terminal.warn(
            f"Of an earlier training, not of {graph}: {', '.join(map(str, stale))}. Delete or export them again."
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
