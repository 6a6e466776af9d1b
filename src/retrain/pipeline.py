"""`retrain(config) -> Report`: the stages in order, nothing else."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain import (
    architectures,
    devices,
    distortions,
    evaluation,
    export,
    graphs,
    preparation,
    sampling,
    sweep,
    tails,
    training,
)
from retrain.architectures import BackboneSpec
from retrain.artefacts import Artefacts
from retrain.backbone import Recipe, check_trainable, keras_network, locate
from retrain.bottlenecks import FreshReader
from retrain.config import RetrainConfig, check
from retrain.dataset import Dataset, Split, scan
from retrain.distortions import Distortions
from retrain.finetune import Tuning
from retrain.head import Head
from retrain.parts import Gather
from retrain.preparation import Prepared, prepare
from retrain.recipes import HeadRecipe
from retrain.refinement import refine
from retrain.report import Measured, Misclassified, Report, Terminal, report_paths, write_report
from retrain.sampling import Plan
from retrain.summaries import TRAIN, VALIDATION, Summaries, write_hparams
from retrain.sweep import Ranked, Trial
from retrain.training import Segment, Trained
from retrain.views import Copier, Views

__all__ = ["RetrainConfig", "retrain"]


@dataclass(frozen=True)
class _Candidate:
    """A trained head with all that it takes to export it, and every evaluation on its way.

    `read` gives bottlenecks of the backbone that the head sits on.
    """

    config: RetrainConfig
    prepared: Prepared
    artefacts: Artefacts
    head: Head
    read: Gather
    measured: list[Measured]
    summaries_dir: Path


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
    _check_results(config)
    _introduce(dataset, terminal)
    # Workers must find each other before TensorFlow does anything else.
    strategy = devices.strategy(config.distribution if config.fine_tune_from else "none")
    with ExitStack() as opened:
        if not devices.is_chief(strategy):
            terminal.say("The results are written by the worker that is chief.")
            terminal = Terminal(quiet=True)
            nowhere = Path(opened.enter_context(TemporaryDirectory()))
            configs = [_elsewhere(each, nowhere) for each in configs]
        if len(trials) > 1:
            write_hparams(configs[0].summaries_dir, {trial.name: trial.shown() for trial in trials})
        prepared: dict[tuple[str, int], Prepared] = {}
        candidates, results = [], []
        for trial, each in zip(trials, configs, strict=True):
            key = (each.architecture, each.random_seed)
            if key not in prepared:
                prepared[key] = _prepare(each, dataset, terminal, opened)
            started = time.perf_counter()
            candidates.append(_candidate(each, trial, prepared[key], strategy, terminal, opened))
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
    return tails.listing(keras_network(recipe).model)


def _prepare(config: RetrainConfig, dataset: Dataset, terminal: Terminal, opened: ExitStack) -> Prepared:
    copier = Copier(_distortions(config), config.random_seed)

    def has_the_layer(recipe: Recipe) -> None:
        if config.fine_tune_from:
            tails.tail(keras_network(recipe).model, config.fine_tune_from)

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


def _candidate(
    config: RetrainConfig, trial: Trial, prepared: Prepared, strategy: Any, terminal: Terminal, opened: ExitStack
) -> _Candidate:
    """Return what one combination of settings comes to."""
    scope = export.HUB_HEAD_SCOPE if config.tfhub_module else export.HEAD_SCOPE
    artefacts = Artefacts(
        prepared.backbone, prepared.source.engine, prepared.dataset.class_names, config.final_tensor_name, scope
    )
    folder = config.summaries_dir / trial.name if trial.name else config.summaries_dir
    every = _steps(config, prepared) // 25
    with Summaries(folder, head_every=every, scope=scope) as summaries:
        if prepared.source.copier.distortions:
            summaries.picture("distortions/first_column_undistorted", preparation.contact_sheet(prepared))
        if trial.name:
            terminal.say(f"Training {trial.name}.")
        trained, measured = _train(config, prepared, artefacts, summaries, terminal, shown=not trial.name)
        found = _Candidate(config, prepared, artefacts, trained.head, prepared.read, measured, folder)
        if config.fine_tune_from is None:
            return found
        return _fine_tuned(found, trained, strategy, summaries, terminal, opened, shown=not trial.name)


def _fine_tuned(
    found: _Candidate,
    trained: Trained,
    strategy: Any,
    summaries: Summaries,
    terminal: Terminal,
    opened: ExitStack,
    *,
    shown: bool,
) -> _Candidate:
    """Return the candidate with its network fine-tuned, or as it is where that was no improvement."""
    config, prepared = found.config, found.prepared
    measured, count = list(found.measured), len(prepared.views.members[Split.VALIDATION])
    before = _steps(config, prepared)

    def report(row: Tuning) -> None:
        values = (row.train_accuracy, row.train_cross_entropy, row.validation_accuracy, row.validation_cross_entropy)
        entry = Measured(before + row.step, *values, count)
        measured.append(entry)
        step, scores = np.array([entry.step]), np.array(values)[:, None]
        if row.step >= 0:
            summaries.measures(TRAIN, step, scores[0], scores[1])
        summaries.measures(VALIDATION, step, scores[2], scores[3])
        if shown and row.step >= 0:
            terminal.measured(entry)

    refined = refine(
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
        checkpoint=_beside(config.checkpoint_path, f".fine_tuning{devices.worker(strategy)}.npz"),
        terminal=terminal,
        opened=opened,
        report=report,
    )
    head_alone, best = measured[len(found.measured)], _best(measured[len(found.measured) :])
    if refined is None:
        terminal.say(
            f"Fine-tuning did not better the validation accuracy of {head_alone.validation_accuracy:.1%}: the network "
            f"is exported as it was."
        )
        return replace(found, measured=measured)
    terminal.say(
        f"Fine-tuning took the validation accuracy from {head_alone.validation_accuracy:.1%} to "
        f"{best.validation_accuracy:.1%} (N={count}), at step {best.step}, whose weights are kept."
    )
    artefacts = replace(found.artefacts, backbone=refined.backbone, engine=refined.source.engine)
    photos = {example.path: number for number, example in enumerate(prepared.dataset.examples)}

    def read(pictures: np.ndarray) -> np.ndarray:
        return refined.read(np.array([photos[prepared.views.names[number]] for number in pictures.tolist()], np.int64))

    return replace(found, artefacts=artefacts, head=refined.head, read=read, measured=measured)


def _elsewhere(config: RetrainConfig, folder: Path) -> RetrainConfig:
    """Return the settings of a worker whose results nobody needs; where it was stopped it must know itself."""
    return replace(
        config,
        output_graph=folder / "graph.pb",
        output_labels=folder / "labels.txt",
        summaries_dir=folder / "summaries",
        intermediate_output_graphs_dir=folder,
        saved_model_dir=None,
    )


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _best(rows: Sequence[Measured]) -> Measured:
    return max(rows, key=lambda row: (row.validation_accuracy, -row.validation_cross_entropy))


def _ranked(trial: Trial, candidate: _Candidate, seconds: float) -> Ranked:
    """Return how good a candidate is on all validation images."""
    shown = candidate.prepared.views
    members = shown.members[Split.VALIDATION]
    probabilities = export.score(
        candidate.head.probabilities, candidate.read, members, len(candidate.prepared.dataset.class_names)
    )
    labels = shown.labels[members]
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return Ranked(
        trial.name,
        right / len(members) if len(members) else 0.0,
        evaluation.cross_entropy(probabilities, labels) if len(members) else math.inf,
        evaluation.wilson_interval(right, len(members)),
        seconds,
        candidate.artefacts.size(candidate.head),
    )


def _finish(chosen: _Candidate, terminal: Terminal) -> Report:
    """Write everything, measure what was written on the test images, and report."""
    config, prepared = chosen.config, chosen.prepared
    testing, truths = _testing(config, prepared.views)
    scored = chosen.artefacts.write(
        config.output_graph, config.output_labels, chosen.head, read=chosen.read, testing=testing, truths=truths
    )
    shown = graphs.sketch(graphs.read(config.output_graph), scope=chosen.artefacts.backbone.architecture)
    with Summaries(chosen.summaries_dir, runs=(TRAIN,), part=".graph") as summaries:
        summaries.graph(shown.SerializeToString())
    if config.saved_model_dir:
        chosen.artefacts.write_saved_model(config.saved_model_dir, config.output_graph)
    report = _report(chosen, scored, testing)
    write_report(report, config.output_graph, prepared.dataset.image_dir)
    terminal.final(report, misclassified=config.print_misclassified_test_images)
    _say_what_was_written(config, lite=chosen.artefacts.engine.model is not None, terminal=terminal)
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
    if config.image_size is not None:
        spec = architectures.sized(spec, config.image_size)
    own: dict[str, Any] = {
        "source": config.input_layer,
        "target": config.bottleneck_tensor,
        "height": config.input_height,
        "width": config.input_width,
        "mean": config.input_mean,
        "std": config.input_std,
    }
    return replace(spec, **{name: value for name, value in own.items() if value is not None})


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


def _distortions(config: RetrainConfig) -> Distortions:
    return Distortions(**{name: getattr(config, name) for name in distortions.NAMES})


def _steps(config: RetrainConfig, prepared: Prepared) -> int:
    """Return the steps to train; an epoch is as many photos as there are training photos."""
    if config.how_many_epochs is None:
        return config.how_many_training_steps
    photos = sum(prepared.dataset.counts(Split.TRAINING))
    return max(1, math.ceil(config.how_many_epochs * photos / config.train_batch_size))


def _introduce(dataset: Dataset, terminal: Terminal) -> None:
    parts = ", ".join(f"{sum(dataset.counts(split))} {split}" for split in Split)
    terminal.say(
        f"{len(dataset.examples)} images in {len(dataset.class_names)} classes in {dataset.image_dir}: {parts}."
    )
    for note in dataset.notes:
        terminal.warn(note)


def _train(
    config: RetrainConfig,
    prepared: Prepared,
    artefacts: Artefacts,
    summaries: Summaries,
    terminal: Terminal,
    *,
    shown: bool,
) -> tuple[Trained, list[Measured]]:
    """Return the trained head and every evaluation on the way, after showing them as they come if `shown`."""
    pictures = prepared.views
    drawn = sampling.plan(
        pictures.labels,
        pictures.members[Split.TRAINING],
        pictures.members[Split.VALIDATION],
        steps=_steps(config, prepared),
        batch_size=config.train_batch_size,
        validation_batch_size=config.validation_batch_size,
        eval_step_interval=config.eval_step_interval,
        seed=config.random_seed,
        stop_every=config.intermediate_store_frequency,
    )
    measured: list[Measured] = []
    stops = set(drawn.stops.tolist())

    def report(segment: Segment) -> None:
        _summarise(summaries, segment)
        for row in _evaluations(segment, drawn.validation.shape[1]):
            measured.append(row)
            if shown:
                terminal.measured(row)
        step = int(segment.steps[-1])
        if step in stops:
            terminal.say(f"Save intermediate result to : {_intermediate(config, step)}")
            artefacts.write_graph(_intermediate(config, step), segment.head)
            artefacts.write_checkpoint(config.checkpoint_path, segment.head, step + 1)

    gather, labels, drawn = _fresh(config, prepared, drawn)
    trained = training.train(
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


def _fresh(config: RetrainConfig, prepared: Prepared, drawn: Plan) -> tuple[Gather, np.ndarray, Plan]:
    """Return what gives bottlenecks, labels, and draws; with a new copy for every draw where that was asked for."""
    pictures = prepared.views
    if config.distortion_copies or not prepared.source.copier.distortions:
        return prepared.read, pictures.labels, drawn
    photos = drawn.batches.ravel()
    gather = FreshReader(prepared.read, pictures.names, photos, source=prepared.source)
    numbers = len(pictures.labels) + np.arange(drawn.batches.size)
    labels = np.concatenate([pictures.labels, pictures.labels[photos]])
    return gather, labels, replace(drawn, batches=numbers.reshape(drawn.batches.shape))


def _say_what_was_kept(trained: Trained, steps: int, terminal: Terminal) -> None:
    if trained.validation_accuracy is None:
        return
    early = f"Stopped after step {trained.last}. " if trained.last < steps - 1 else ""
    terminal.say(
        f"{early}Kept the weights of step {trained.step}, where the validation accuracy was best "
        f"({trained.validation_accuracy:.1%})."
    )


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
            weights=segment.head.last.weights,
            biases=segment.head.last.biases,
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


def _chosen(config: RetrainConfig) -> dict[str, object]:
    """Return the settings that differ from their defaults, places of files left out."""
    given = {field.name: getattr(config, field.name) for field in fields(config) if field.default is not MISSING}
    default = {field.name: field.default for field in fields(config)}
    shown = {n: value for n, value in given.items() if value != default[n] and not isinstance(value, Path)}
    return {n: value for n, value in shown.items() if n not in ("architecture", "learning_rate", "random_seed")}


def _report(chosen: _Candidate, probabilities: np.ndarray, testing: np.ndarray) -> Report:
    config, prepared = chosen.config, chosen.prepared
    dataset, labels = prepared.dataset, prepared.views.labels[testing]
    confusion = evaluation.confusion_matrix(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    names = dataset.class_names
    return Report(
        architecture=config.tfhub_module or config.architecture,
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        steps=_steps(config, prepared),
        learning_rate=config.learning_rate,
        random_seed=config.random_seed,
        settings=_chosen(config),
        test_accuracy=evaluation.accuracy(probabilities, labels) if len(testing) else None,
        test_cross_entropy=evaluation.cross_entropy(probabilities, labels) if len(testing) else None,
        test_interval=evaluation.wilson_interval(len(testing) - len(wrong), len(testing)),
        test_count=len(testing),
        class_figures=evaluation.class_figures(confusion),
        confusion=confusion.tolist(),
        misclassified=[
            Misclassified(
                prepared.views.names[testing[i]],
                names[labels[i]],
                names[int(probabilities[i].argmax())],
                float(probabilities[i].max()),
            )
            for i in wrong
        ],
        rejected=prepared.rejected,
        notes=dataset.notes,
        measured=chosen.measured,
    )
