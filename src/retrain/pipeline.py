"""`retrain(config) -> Report`: the stages in order, nothing else."""

import math
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from retrain import __version__, architectures, bottlenecks, evaluation, export, freeze, graphs, sampling, training
from retrain.architectures import BackboneSpec
from retrain.backbone import Backbone, load_backbone, locate
from retrain.classifier import GraphModel, LiteRTModel, Metadata, describe
from retrain.config import RetrainConfig
from retrain.dataset import Dataset, Split, scan, without
from retrain.engine import Engine
from retrain.errors import ExportError, UsageError
from retrain.files import aside
from retrain.report import Measured, Misclassified, Report, Terminal, report_paths, write_report
from retrain.store import Store
from retrain.summaries import TRAIN, VALIDATION, Summaries
from retrain.training import Head, Segment

PARITY = 2e-3  # how far the written graph may be from what was trained, of a probability or the largest feature


__all__ = ["PARITY", "RetrainConfig", "retrain"]


def retrain(config: RetrainConfig, terminal: Terminal | None = None) -> Report:
    """Return the report of a training: photos in, an exported graph that was loaded again and measured out.

    Raises:
        RetrainError: Anything that the user can mend; nothing that was finished is lost by running again.
    """
    terminal = terminal or Terminal(quiet=True)
    _check(config)
    spec = _spec(config)
    dataset = scan(
        config.image_dir,
        validation_percentage=config.validation_percentage,
        testing_percentage=config.testing_percentage,
    )
    export.check_writable(config.output_graph, config.output_labels, *report_paths(config.output_graph))
    _introduce(dataset, terminal)
    recipe = locate(
        spec,
        model_dir=config.model_dir,
        weights=config.weights,
        seed=config.random_seed,
        advance=terminal.progress("Downloading the backbone", "B"),
    )
    folder = config.bottleneck_dir / recipe.folder_name
    backbone = load_backbone(recipe, folder)
    engine = bottlenecks.open_engine(backbone, terminal.warn)
    with Store(folder, dimension=backbone.dimension) as store:
        dataset, read, rejected = _bottlenecks(dataset, store, engine, terminal)
        with Summaries(config.summaries_dir, head_every=config.how_many_training_steps // 25) as summaries:
            head, measured = _train(config, dataset, read, summaries, terminal)
            outcome = _export(config, dataset, backbone, engine, head, read)
            summaries.graph(graphs.without_weights(graphs.read(config.output_graph)).SerializeToString())
    report = _report(config, dataset, outcome, measured, rejected)
    write_report(report, config.output_graph, dataset.image_dir)
    terminal.final(report, misclassified=config.print_misclassified_test_images)
    page, _ = report_paths(config.output_graph)
    lite = [export.litert_path(config.output_graph)] if engine.model else []
    written = [config.output_graph, *lite, config.output_labels]
    terminal.say(f"Wrote {', '.join(str(path) for path in written)} and {page}.")
    return report


def _check(config: RetrainConfig) -> None:
    for name in ("how_many_training_steps", "eval_step_interval", "train_batch_size"):
        if getattr(config, name) < 1:
            raise UsageError(f"--{name} is {getattr(config, name)}; it must be at least 1.")
    if config.validation_batch_size < 1 and config.validation_batch_size != -1:
        raise UsageError(f"--validation_batch_size is {config.validation_batch_size}; give -1 for all, or at least 1.")
    if not 0 < config.learning_rate < math.inf:
        raise UsageError(f"--learning_rate is {config.learning_rate:g}; it must be above 0.")
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", config.final_tensor_name):
        raise UsageError(
            f"--final_tensor_name is {config.final_tensor_name!r}; a node's name is letters, digits and _ . / - only."
        )
    if config.input_std == 0:
        raise UsageError("--input_std is 0; pixels are divided by it. 1 leaves them as they are.")


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


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    terminal.say(
        f"{len(dataset.examples)} images in {len(dataset.class_names)} classes in {dataset.image_dir}: {parts}."
    )
    for note in dataset.notes:
        terminal.warn(note)


def _bottlenecks(
    dataset: Dataset, store: Store, engine: Engine, terminal: Terminal
) -> tuple[Dataset, bottlenecks.Reader, dict[str, str]]:
    """Return the data set without its unreadable images, what reads its bottlenecks, and what was rejected."""
    paths = [example.path for example in dataset.examples]
    known, todo = bottlenecks.missing(paths, image_dir=dataset.image_dir, store=store)
    found = bottlenecks.compute(
        paths,
        todo,
        image_dir=dataset.image_dir,
        store=store,
        engine=engine,
        advance=terminal.progress("Bottlenecks", "image"),
    )
    rows, rejected = np.maximum(known.rows, found.rows), known.rejected | found.rejected
    terminal.rejected(rejected)
    skipped = f", {len(rejected)} file(s) skipped" if rejected else ""
    terminal.say(f"{len(paths) - len(rejected)} bottlenecks in {store.folder}: {found.computed} computed now{skipped}.")
    left = without(dataset, list(rejected))
    for note in left.notes:
        if note not in dataset.notes:
            terminal.warn(note)
    kept = [index for index, path in enumerate(paths) if path not in rejected]
    reader = bottlenecks.Reader(
        [paths[index] for index in kept], rows[kept], image_dir=dataset.image_dir, store=store, engine=engine
    )
    return left, reader, rejected


def _labels(dataset: Dataset) -> np.ndarray:
    return np.array([example.class_id for example in dataset.examples], np.int64)


def _members(dataset: Dataset, split: Split) -> np.ndarray:
    return np.array([i for i, example in enumerate(dataset.examples) if example.split is split], np.int64)


def _train(
    config: RetrainConfig, dataset: Dataset, read: bottlenecks.Reader, summaries: Summaries, terminal: Terminal
) -> tuple[Head, list[Measured]]:
    """Return the trained head and every evaluation on the way, after showing them as they come."""
    labels, members = _labels(dataset), _members(dataset, Split.TRAINING)
    drawn = sampling.plan(
        labels,
        members,
        _members(dataset, Split.VALIDATION),
        steps=config.how_many_training_steps,
        batch_size=config.train_batch_size,
        validation_batch_size=config.validation_batch_size,
        eval_step_interval=config.eval_step_interval,
        seed=config.random_seed,
    )
    measured: list[Measured] = []

    def report(segment: Segment) -> None:
        _summarise(summaries, segment)
        for row in _evaluations(segment, drawn.validation.shape[1]):
            measured.append(row)
            terminal.measured(row)

    head = training.train(
        read,
        labels,
        members,
        drawn,
        class_count=len(dataset.class_names),
        learning_rate=config.learning_rate,
        seed=config.random_seed,
        report=report,
    )
    return head, measured


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


def _export(
    config: RetrainConfig,
    dataset: Dataset,
    backbone: Backbone,
    engine: Engine,
    head: Head,
    read: bottlenecks.Reader,
) -> np.ndarray:
    """Return the probabilities float32 [n, C] of the test images, given by the graph that was written.

    Raises:
        ExportError: The graph could not be written, or differs from what was trained.
    """
    testing, class_count = _members(dataset, Split.TESTING), len(dataset.class_names)
    expected = export.score(head.probabilities, read, testing, class_count)
    accuracy = evaluation.accuracy(expected, _labels(dataset)[testing]) if len(testing) else None
    described = Metadata(
        labels=dataset.class_names,
        input=backbone.source,
        height=backbone.height,
        width=backbone.width,
        mean=backbone.mean,
        std=backbone.std,
        architecture=backbone.architecture,
        test_accuracy=accuracy,
        retrain_version=__version__,
        tensorflow_version=metadata.version("tensorflow"),
    )
    joined: dict[str, Any] = {"weights": head.weights, "biases": head.biases, "output": config.final_tensor_name}
    draft = aside(config.output_graph)
    try:
        export.write_graph(
            draft,
            backbone=backbone.graph,
            source=backbone.source,
            target=backbone.target,
            metadata=described,
            **joined,
        )
        written = GraphModel(draft, describe(draft))
        scored = export.score(written.from_bottlenecks, read, testing, class_count)
        _check_parity(config.output_graph, written, engine, scored, expected)
        # Only a graph that passed takes the place of the last one.
        draft.replace(config.output_graph)
    finally:
        draft.unlink(missing_ok=True)
    export.write_labels(config.output_labels, dataset.class_names)
    if engine.model:
        lite = export.write_litert(config.output_graph, backbone=engine.model, metadata=described, **joined)
        picture = freeze.probe_image(engine.height, engine.width)
        _check_close(
            lite,
            "probabilities",
            LiteRTModel(lite, describe(lite))(picture[None]),
            head.probabilities(engine.runner()(picture)[None]),
        )
    return scored


def _check_parity(path: Path, written: GraphModel, engine: Engine, scored: np.ndarray, expected: np.ndarray) -> None:
    """Refuse a written graph whose head or backbone differs from what was trained."""
    _check_close(path, "probabilities", scored, expected)
    # One picture goes through the file's backbone; the test images need not be read again for it.
    picture = freeze.probe_image(engine.height, engine.width)
    trained_on = engine.run_one(picture)
    largest = max(1e-6, float(np.abs(trained_on).max()))
    _check_close(path, "bottlenecks", written.bottlenecks(picture[None])[0] / largest, trained_on / largest)


def _check_close(path: Path, what: str, in_file: np.ndarray, trained: np.ndarray) -> None:
    difference = float(np.abs(in_file - trained).max(initial=0.0))
    if not difference <= PARITY:
        raise ExportError(
            f"{path} gives {what} that differ by {difference:.2g} from those of the trained network "
            f"(at most {PARITY:g} is accepted). Delete the folder of its bottlenecks and run again."
        )


def _report(
    config: RetrainConfig,
    dataset: Dataset,
    probabilities: np.ndarray,
    measured: list[Measured],
    rejected: dict[str, str],
) -> Report:
    testing = _members(dataset, Split.TESTING)
    labels = _labels(dataset)[testing]
    confusion = evaluation.confusion_matrix(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    names = dataset.class_names
    return Report(
        architecture=config.tfhub_module or config.architecture,
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        steps=config.how_many_training_steps,
        learning_rate=config.learning_rate,
        random_seed=config.random_seed,
        test_accuracy=evaluation.accuracy(probabilities, labels) if len(testing) else None,
        test_cross_entropy=evaluation.cross_entropy(probabilities, labels) if len(testing) else None,
        test_interval=evaluation.wilson_interval(len(testing) - len(wrong), len(testing)),
        test_count=len(testing),
        class_figures=evaluation.class_figures(confusion),
        confusion=confusion.tolist(),
        misclassified=[
            Misclassified(
                dataset.examples[testing[i]].path,
                names[labels[i]],
                names[int(probabilities[i].argmax())],
                float(probabilities[i].max()),
            )
            for i in wrong
        ],
        rejected=rejected,
        notes=dataset.notes,
        measured=measured,
    )
