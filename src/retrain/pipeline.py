"""`retrain(config) -> Report`: the stages in order, nothing else."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import (
    architectures,
    bottlenecks,
    distortions,
    evaluation,
    export,
    graphs,
    legacy_cache,
    sampling,
    training,
    views,
)
from retrain.architectures import BackboneSpec
from retrain.artefacts import Artefacts
from retrain.backbone import load_backbone, locate
from retrain.bottlenecks import FreshReader, Reader, Source
from retrain.config import RetrainConfig, check
from retrain.dataset import Dataset, Split, scan, without
from retrain.distortions import Distortions
from retrain.legacy_cache import LegacyCache
from retrain.report import Measured, Misclassified, Report, Terminal, report_paths, write_report
from retrain.store import Store
from retrain.summaries import TRAIN, VALIDATION, Summaries
from retrain.training import Head, Segment
from retrain.views import Copier, Views

_SHEET_ROWS, _SHEET_COPIES = 8, 8  # photos on the contact sheet of distortions, and copies of each

__all__ = ["RetrainConfig", "retrain"]


@dataclass(frozen=True)
class _Pictures:
    """The readable part of a data set, its pictures, and where their bottlenecks are."""

    dataset: Dataset
    views: Views
    read: Reader
    rejected: dict[str, str]


def retrain(config: RetrainConfig, terminal: Terminal | None = None) -> Report:
    """Return the report of a training: photos in, an exported graph that was loaded again and measured out.

    Raises:
        RetrainError: Anything that the user can mend; nothing that was finished is lost by running again.
    """
    terminal = terminal or Terminal(quiet=True)
    check(config)
    spec = _spec(config)
    dataset = scan(
        config.image_dir,
        validation_percentage=config.validation_percentage,
        testing_percentage=config.testing_percentage,
    )
    _check_results(config)
    _introduce(dataset, terminal)
    old = _legacy_cache(config, dataset)
    spec = _as_cached(config, spec, old, dataset, terminal)
    recipe = locate(
        spec,
        model_dir=config.model_dir,
        weights=config.weights,
        seed=config.random_seed,
        advance=terminal.progress("Downloading the backbone", "B"),
    )
    folder = config.bottleneck_dir / recipe.folder_name
    backbone = load_backbone(recipe, folder)
    terminal.detail(
        f"{backbone.architecture}: {backbone.width} x {backbone.height} px at node {backbone.source}, "
        f"(pixel - {backbone.mean:g}) / {backbone.std:g}; {backbone.dimension} features at node {backbone.target}."
    )
    engine = bottlenecks.open_engine(backbone, terminal.warn)
    copier = Copier(_distortions(config), config.random_seed)
    source = Source(dataset.image_dir, engine, copier)
    if old and old.dimension == backbone.dimension:
        source = replace(source, recall=old.recall)
    scope = export.HUB_HEAD_SCOPE if config.tfhub_module else export.HEAD_SCOPE
    with Store(folder, dimension=backbone.dimension) as store:
        pictures = _bottlenecks(config, dataset, store, source, old, terminal)
        artefacts = Artefacts(backbone, engine, pictures.dataset.class_names, config.final_tensor_name, scope)
        every = config.how_many_training_steps // 25
        with Summaries(config.summaries_dir, head_every=every, scope=scope) as summaries:
            if copier.distortions:
                summaries.picture("distortions/first_column_undistorted", _contact_sheet(pictures, source))
            head, measured = _train(config, pictures, source, artefacts, summaries, terminal)
            testing, truths = _testing(config, pictures.views)
            scored = artefacts.write(
                config.output_graph, config.output_labels, head, read=pictures.read, testing=testing, truths=truths
            )
            shown = graphs.sketch(graphs.read(config.output_graph), scope=backbone.architecture)
            summaries.graph(shown.SerializeToString())
    if config.saved_model_dir:
        artefacts.write_saved_model(config.saved_model_dir, config.output_graph)
    report = _report(config, pictures, scored, testing, measured)
    write_report(report, config.output_graph, dataset.image_dir)
    terminal.final(report, misclassified=config.print_misclassified_test_images)
    _say_what_was_written(config, lite=engine.model is not None, terminal=terminal)
    return report


def _check_results(config: RetrainConfig) -> None:
    """Fail now, not after the training, where a result cannot be written."""
    written = [config.output_graph, config.output_labels, *report_paths(config.output_graph), config.checkpoint_path]
    if config.intermediate_store_frequency:
        written.append(_intermediate(config, 0))
    export.check_writable(*written)
    if config.saved_model_dir:
        export.check_saved_model_dir(config.saved_model_dir)


def _say_what_was_written(config: RetrainConfig, *, lite: bool, terminal: Terminal) -> None:
    page, _ = report_paths(config.output_graph)
    written = [config.output_graph, *([export.litert_path(config.output_graph)] if lite else []), config.output_labels]
    written += [config.saved_model_dir] if config.saved_model_dir else []
    terminal.say(f"Wrote {', '.join(str(path) for path in written)} and {page}.")


def _spec(config: RetrainConfig) -> BackboneSpec:
    """Return the backbone's row with the user's own values in it."""
    if config.tfhub_module is not None:
        spec = architectures.from_hub(config.tfhub_module)
    else:
        spec = architectures.find(config.architecture)
    own: dict[str, Any] = {
        "source": config.input_layer,
        "target": config.bottleneck_tensor,
        "height": config.input_height,
        "width": config.input_width,
        "mean": config.input_mean,
        "std": config.input_std,
    }
    return replace(spec, **{name: value for name, value in own.items() if value is not None})


def _distortions(config: RetrainConfig) -> Distortions:
    return Distortions(**{name: getattr(config, name) for name in distortions.NAMES})


def _legacy_cache(config: RetrainConfig, dataset: Dataset) -> LegacyCache | None:
    paths = [example.path for example in dataset.examples]
    network = config.tfhub_module or config.architecture
    return legacy_cache.find(config.bottleneck_dir, dataset.image_dir, paths, network)


def _as_cached(
    config: RetrainConfig, spec: BackboneSpec, old: LegacyCache | None, dataset: Dataset, terminal: Terminal
) -> BackboneSpec:
    """Return the row with the original's bottleneck in place of ours, if its files hold most photos' already."""
    most = old is not None and 2 * len(old.files) > len(dataset.examples)
    if old is None or not most or config.bottleneck_tensor or old.dimension != spec.original_dimension:
        return spec
    terminal.say(
        f"{config.bottleneck_dir} holds the original's bottlenecks, outputs of {spec.original_target}: training on "
        f"those. --bottleneck_tensor={spec.target} trains on ours."
    )
    return replace(spec, target=spec.original_target)


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    terminal.say(
        f"{len(dataset.examples)} images in {len(dataset.class_names)} classes in {dataset.image_dir}: {parts}."
    )
    for note in dataset.notes:
        terminal.warn(note)


def _bottlenecks(
    config: RetrainConfig, dataset: Dataset, store: Store, source: Source, old: LegacyCache | None, terminal: Terminal
) -> _Pictures:
    """Return the pictures of all readable images, after making the bottlenecks that the store lacks."""
    copies = config.distortion_copies if source.copier.distortions else 0
    left, rejected = dataset, dict[str, str]()
    computed = recalled = 0
    while True:
        shown = views.views(left, source.copier, copies=copies)
        known, todo = bottlenecks.missing(shown.names, image_dir=dataset.image_dir, store=store)
        advance = terminal.progress("Bottlenecks", "image")
        found = bottlenecks.compute(shown.names, todo, source=source, store=store, advance=advance)
        computed, recalled = computed + found.computed, recalled + found.recalled
        bad = known.rejected | found.rejected
        rejected |= bad
        if not bad:
            break
        terminal.rejected(bad)
        # A class may have lost its training images; then others take their place, and are looked at again.
        left = without(left, list(bad))
    for note in left.notes:
        if note not in dataset.notes:
            terminal.warn(note)
    _say_what_was_recalled(config, old, recalled, store.dimension, terminal)
    skipped = f", {len(rejected)} file(s) skipped" if rejected else ""
    distorted = f" ({copies} distorted copies of each training image)" if copies else ""
    terminal.say(f"{len(shown.names)} bottlenecks in {store.folder}: {computed} computed now{skipped}{distorted}.")
    read = Reader(shown.names, np.maximum(known.rows, found.rows), source=source, store=store)
    return _Pictures(left, shown, read, rejected)


def _say_what_was_recalled(
    config: RetrainConfig, old: LegacyCache | None, recalled: int, dimension: int, terminal: Terminal
) -> None:
    if old is None:
        return
    if recalled:
        terminal.say(f"{recalled} bottlenecks read from the original's .txt files in {config.bottleneck_dir}.")
    for reason, count in sorted(old.refused.items()):
        terminal.warn(f"{count} of the original's .txt files in {config.bottleneck_dir} are {reason}: computed anew.")
    if old.dimension != dimension:
        terminal.warn(
            f"{len(old.files)} of the original's .txt files in {config.bottleneck_dir} hold {old.dimension} numbers "
            f"each, and this backbone gives {dimension}: not used."
        )


def _contact_sheet(pictures: _Pictures, source: Source) -> np.ndarray:
    """Return rows of training images, each followed by its first distorted copies."""
    first = {e.class_id: e.path for e in reversed(pictures.dataset.examples) if e.split is Split.TRAINING}
    rows = []
    for path in list(first.values())[:_SHEET_ROWS]:
        names = [source.copier.name(path, str(number)) for number in range(_SHEET_COPIES)]
        rows.append(source.pictures([path, *names]))
    return distortions.contact_sheet(rows)


def _train(
    config: RetrainConfig,
    pictures: _Pictures,
    source: Source,
    artefacts: Artefacts,
    summaries: Summaries,
    terminal: Terminal,
) -> tuple[Head, list[Measured]]:
    """Return the trained head and every evaluation on the way, after showing them as they come."""
    shown = pictures.views
    drawn = sampling.plan(
        shown.labels,
        shown.members[Split.TRAINING],
        shown.members[Split.VALIDATION],
        steps=config.how_many_training_steps,
        batch_size=config.train_batch_size,
        validation_batch_size=config.validation_batch_size,
        eval_step_interval=config.eval_step_interval,
        seed=config.random_seed,
        stop_every=config.intermediate_store_frequency,
    )
    gather: training.Gather = pictures.read
    labels = shown.labels
    if source.copier.distortions and not config.distortion_copies:
        gather = FreshReader(pictures.read, shown.names, drawn.batches.ravel(), source=source)
        labels = np.concatenate([labels, labels[drawn.batches.ravel()]])
        numbers = len(shown.labels) + np.arange(drawn.batches.size)
        drawn = replace(drawn, batches=numbers.reshape(drawn.batches.shape))
    measured: list[Measured] = []
    stops = set(drawn.stops.tolist())

    def report(segment: Segment) -> None:
        _summarise(summaries, segment)
        for row in _evaluations(segment, drawn.validation.shape[1]):
            measured.append(row)
            terminal.measured(row)
        step = int(segment.steps[-1])
        if step in stops:
            terminal.say(f"Save intermediate result to : {_intermediate(config, step)}")
            artefacts.write_graph(_intermediate(config, step), segment.head)
            artefacts.write_checkpoint(config.checkpoint_path, segment.head, step + 1)

    head = training.train(
        gather,
        labels,
        shown.members[Split.TRAINING],
        drawn,
        class_count=len(pictures.dataset.class_names),
        learning_rate=config.learning_rate,
        seed=config.random_seed,
        report=report,
    )
    artefacts.write_checkpoint(config.checkpoint_path, head, config.how_many_training_steps)
    return head, measured


def _intermediate(config: RetrainConfig, step: int) -> Path:
    return config.intermediate_output_graphs_dir / f"intermediate_{step}.pb"


def _summarise(summaries: Summaries, segment: Segment) -> None:
    summaries.measures(TRAIN, segment.steps, segment.accuracy, segment.cross_entropy)
    if not np.isnan(segment.validation_accuracy).all():
        summaries.measures(VALIDATION, segment.evaluated, segment.validation_accuracy, segment.validation_cross_entropy)
    step = int(segment.steps[-1])
    if summaries.wants_head(step):
        summaries.head(
            step,
            weights=segment.head.weights,
            biases=segment.head.biases,
            logits=segment.head.logits(segment.batch),
            activations=segment.head.probabilities(segment.batch),
        )


def _evaluations(segment: Segment, validation_count: int) -> list[Measured]:
    return [
        Measured(
            step=int(step),
            train_accuracy=float(segment.train_accuracy[i]),
            train_cross_entropy=float(segment.train_cross_entropy[i]),
            validation_accuracy=float(segment.validation_accuracy[i]),
            validation_cross_entropy=float(segment.validation_cross_entropy[i]),
            validation_count=validation_count,
        )
        for i, step in enumerate(segment.evaluated)
    ]


def _testing(config: RetrainConfig, shown: Views) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the test images that count, int64 [n], and their class ids."""
    testing = shown.members[Split.TESTING]
    testing = sampling.sample(shown.labels, testing, size=config.test_batch_size, seed=config.random_seed)
    return testing, shown.labels[testing]


def _report(
    config: RetrainConfig,
    pictures: _Pictures,
    probabilities: np.ndarray,
    testing: np.ndarray,
    measured: list[Measured],
) -> Report:
    dataset, labels = pictures.dataset, pictures.views.labels[testing]
    confusion = evaluation.confusion_matrix(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    names = dataset.class_names
    chosen = {name: getattr(config, name) for name in distortions.NAMES if getattr(config, name)}
    return Report(
        architecture=config.tfhub_module or config.architecture,
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        steps=config.how_many_training_steps,
        learning_rate=config.learning_rate,
        random_seed=config.random_seed,
        distortions={**chosen, "distortion_copies": config.distortion_copies} if chosen else {},
        test_accuracy=evaluation.accuracy(probabilities, labels) if len(testing) else None,
        test_cross_entropy=evaluation.cross_entropy(probabilities, labels) if len(testing) else None,
        test_interval=evaluation.wilson_interval(len(testing) - len(wrong), len(testing)),
        test_count=len(testing),
        class_figures=evaluation.class_figures(confusion),
        confusion=confusion.tolist(),
        misclassified=[
            Misclassified(
                pictures.views.names[testing[i]],
                names[labels[i]],
                names[int(probabilities[i].argmax())],
                float(probabilities[i].max()),
            )
            for i in wrong
        ],
        rejected=pictures.rejected,
        notes=dataset.notes,
        measured=measured,
    )
