"""One combination of settings, trained: its head, on the network as it is or as it was fine-tuned."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import sweep, time_limit
from retrain.backbones import devices
from retrain.bottlenecks import preparation
from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import Gather
from retrain.config import RetrainConfig
from retrain.data.split import Split
from retrain.display import Display, later
from retrain.errors import plural
from retrain.evaluation import board_pages
from retrain.evaluation.hparams import write_trial
from retrain.evaluation.tensorboard import VALIDATION, Summaries
from retrain.export import ClassifierWriter, LabelledBottlenecks
from retrain.formats.checkpoint import CheckpointFiles
from retrain.head import Head
from retrain.history import ChunkResult, Evaluation
from retrain.plans import fine_tuning_plan, is_trained_in_numpy, recipe_of, scope_of, steps_of, training_plan
from retrain.session import Session
from retrain.stopping import Stopping, is_over
from retrain.sweep import Trial, TrialResult
from retrain.terminal import Terminal
from retrain.training import head_training, learning_rate, sampling
from retrain.training.fine_tuning import FineTunedBackbone, FineTuningResult, fine_tune
from retrain.training.head_training import TrainedHead, TrainingData
from retrain.training.recipe import AUTO, LARGEST_FINE_TUNING_RATE, divergence
from retrain.training.sampling import SamplingPlan

_SUMMARIES_OF_THE_HEAD = 25  # in a training, about


@dataclass(frozen=True)
class Candidate:
    """A trained head with everything needed to export it, and all evaluations of its training.

    `read` gives bottlenecks of the backbone that the head sits on, and `read_exactly` those of test photos in float32,
    as exported files compute them. `steps` are those of the head's training that were taken, `step` the one whose
    weights it has. `curves` are the event files of the training, by their runs. `result` is that of a sweep's trial,
    None for a single training. `is_cut_short` says that the same command would fine-tune further.
    `ranked` are all trials of the sweep that this candidate won, best first.
    """

    config: RetrainConfig
    prepared: PreparedDataset
    artefacts: ClassifierWriter
    head: Head
    read: Gather
    read_exactly: Gather
    history: Sequence[Evaluation]
    steps: int
    step: int
    summaries_dir: Path
    curves: Mapping[str, Path]
    result: TrialResult | None = None
    is_cut_short: bool = False
    ranked: Sequence[TrialResult] = ()

    def labelled(self, rows: np.ndarray, read: Gather) -> LabelledBottlenecks:
        """Return the bottlenecks, from one of the readers, and the class ids of some variants, int64 [n]."""
        return LabelledBottlenecks(read, rows, self.prepared.variants.labels[rows])


def train_candidate(config: RetrainConfig, trial: Trial, prepared: PreparedDataset, session: Session) -> Candidate:
    """Return one combination of settings, trained.

    Raises:
        TrainingError: The training diverged, or needs more memory than there is.
    """
    artefacts = _writer(config, prepared, session.strategy)
    folder, own = config.summaries_dir / trial.name, intermediate_files(config, trial)
    steps = steps_of(config, prepared.dataset)
    with Summaries(folder, head_every=steps // _SUMMARIES_OF_THE_HEAD, scope=artefacts.scope) as summaries:
        _introduce(config, trial, prepared, summaries, session.terminal)
        started = time.perf_counter()
        display = Display(summaries, session.terminal, listed=not trial.name)
        keep = _keeper(artefacts, own, session.terminal)
        config, trained, stopping = _head_in_time(config, prepared, keep, display, session.stopping)
        candidate = Candidate(
            config,
            prepared,
            artefacts,
            trained.head,
            prepared.read,
            prepared.read_exactly,
            trained.history,
            steps=trained.history[-1].step + 1,
            step=trained.step,
            summaries_dir=folder,
            curves=summaries.paths,
        )
        if config.fine_tune_from is not None:
            candidate = _fine_tuned(candidate, trained, own, display, replace(session, stopping=stopping))
        if not trial.name:
            return candidate
        result = _result(candidate, trial, time.perf_counter() - started)
        # HParams compares the last points of curves: they are those of the table.
        figures = {"accuracy": np.array([result.accuracy]), "cross_entropy": np.array([result.cross_entropy])}
        summaries.scalars(VALIDATION, np.array([candidate.history[-1].step + 1]), figures)
        return replace(candidate, result=result)


def _writer(config: RetrainConfig, prepared: PreparedDataset, strategy: Any) -> ClassifierWriter:
    """Return what writes the classifiers of a training.

    Raises:
        UsageError: Their output is called like a node of the backbone.
    """
    writer = ClassifierWriter(
        prepared.runner,
        prepared.dataset.class_names,
        config.final_tensor_name,
        scope_of(config),
        preparation.describe_split(prepared, config.split_rule, config.group_by or ""),
        is_chief=strategy is None or devices.is_chief(strategy),
    )
    writer.check_output()
    return writer


def _introduce(
    config: RetrainConfig, trial: Trial, prepared: PreparedDataset, summaries: Summaries, terminal: Terminal
) -> None:
    """Say and show what comes before a training: its distorted photos, and which of several trainings it is."""
    if summaries.shared:
        folder = config.summaries_dir / trial.name
        terminal.warn(f"Another run is writing to {folder}: TensorBoard shows its curves with these.")
    summaries.add_values([board_pages.charts()])
    if prepared.extractor.distorter.distortions:
        summaries.add_values([board_pages.distorted(*preparation.contact_sheet(prepared))])
    if trial.name:
        terminal.say(f"Training {trial.name}.")
        write_trial(config.summaries_dir, trial.name, trial.shown())
        if config.fine_tune_from is not None or not is_trained_in_numpy(config, prepared):
            _start_tensorflow()


@dataclass(frozen=True)
class IntermediateFiles:
    """Where a candidate's results go while it is trained: graphs of intermediate steps, and its checkpoint."""

    graphs: Path
    checkpoint: CheckpointFiles

    def graph(self, step: int) -> Path:
        """Return where the intermediate graph of a step goes."""
        return self.graphs / f"intermediate_{step}.pb"

    def fine_tuning(self, suffix: str) -> Path:
        """Return where the state of an interrupted fine-tuning goes; `suffix` is a worker's, "" for one alone."""
        return self.checkpoint.prefix.with_name(f"{self.checkpoint.prefix.name}.fine_tuning{suffix}.npz")


def intermediate_files(config: RetrainConfig, trial: Trial) -> IntermediateFiles:
    """Return the files of a trial, which are not those of another one."""
    checkpoint = checkpoint_files(config)
    if trial.name:
        prefix = checkpoint.prefix.with_name(f"{checkpoint.prefix.name}.{trial.name}")
        checkpoint = replace(checkpoint, prefix=prefix)
    return IntermediateFiles(config.intermediate_output_graphs_dir / trial.name, checkpoint)


def checkpoint_files(config: RetrainConfig) -> CheckpointFiles:
    """Return where the head's variables go: TensorFlow's checkpoint only where the user names one."""
    default = config.output_graph.parent / "checkpoints" / "head"
    return CheckpointFiles(config.checkpoint_path or default, tensorflow=config.checkpoint_path is not None)


@functools.cache
def _start_tensorflow() -> None:
    """Import TensorFlow and run it once, so that no trial is charged with its start."""
    import keras
    import tensorflow as tf

    tf.function(lambda value: value + 1)(keras.Variable(0.0).value)


def _result(candidate: Candidate, trial: Trial, seconds: float) -> TrialResult:
    """Return the figures of a candidate on all validation photos.

    Raises:
        TrainingError: Its probabilities are not finite.
    """
    validation = candidate.labelled(candidate.prepared.variants.members[Split.VALIDATION], candidate.read)
    count, size = len(candidate.prepared.dataset.class_names), candidate.artefacts.size(candidate.head)
    probabilities = validation.score(candidate.head.probabilities, class_count=count)
    result = sweep.result_of(trial, probabilities, validation.labels, seconds=seconds, size=size)
    if result.failed:
        raise divergence("training", candidate.steps - 1, "--learning_rate", float(candidate.config.learning_rate))
    return result


def _keeper(artefacts: ClassifierWriter, own: IntermediateFiles, terminal: Terminal) -> Callable[[int, Head], None]:
    """Return what writes the graph and the checkpoint of an intermediate step with its head."""

    def keep(step: int, head: Head) -> None:
        terminal.say(f"Save intermediate result to : {own.graph(step)}")
        artefacts.write_graph(own.graph(step), head)
        artefacts.write_checkpoint(own.checkpoint, head, step + 1)

    return keep


def _head_in_time(
    config: RetrainConfig,
    prepared: PreparedDataset,
    keep: Callable[[int, Head], None],
    display: Display,
    stopping: Stopping,
) -> tuple[RetrainConfig, TrainedHead, Stopping]:
    """Return the settings with a learning rate that was found, the head, and what may end a fine-tuning that follows.

    Each of the folds, which come last, takes as long as the head did: that time is kept for them.
    """
    folds = config.folds or 0
    deadline = time_limit.of_the_head(stopping.deadline, is_tuned=config.fine_tune_from is not None, folds=folds)
    if config.learning_rate == AUTO:
        config = replace(config, learning_rate=_best_rate(config, prepared, display.terminal, deadline))
    began = time.monotonic()
    trained = _train(config, prepared, keep, display, time_limit.at_least(deadline))
    return config, trained, stopping.earlier(folds * (time.monotonic() - began))


def _train(
    config: RetrainConfig,
    prepared: PreparedDataset,
    keep: Callable[[int, Head], None],
    display: Display,
    deadline: float | None,
) -> TrainedHead:
    """Return the trained head; `keep` gets the intermediate steps to keep, with their heads."""
    variants = prepared.variants
    training, plan = variants.members[Split.TRAINING], training_plan(config, prepared)
    samples = sampling.sample_training(variants.labels, training, variants.members[Split.VALIDATION], plan)
    checkpoint_steps = set(samples.checkpoint_steps.tolist())

    def report(result: ChunkResult) -> None:
        show(result)
        step = int(result.steps[-1])
        if step in checkpoint_steps:
            keep(step, result.head)

    gather, labels, samples = _fresh(config, prepared, samples)
    data = TrainingData(gather, labels, training, len(prepared.dataset.class_names))
    with display.head(plan.steps) as show:
        trained = head_training.train(data, samples, recipe_of(config), plan, report=report, deadline=deadline)
    last = trained.history[-1].step
    if last < plan.steps - 1 and is_over(deadline):
        display.terminal.say(f"--time_limit ended the training of the last layer after step {last} of {plan.steps}.")
    if plan.patience is not None:
        _say_which_was_kept(trained, plan.steps, display.terminal)
    return trained


def _best_rate(config: RetrainConfig, prepared: PreparedDataset, terminal: Terminal, deadline: float | None) -> float:
    """Return the learning rate that is best on the validation photos, and say what the others gave.

    Where a deadline leaves no time to compare them, it is the default one.
    """
    variants, classes = prepared.variants, len(prepared.dataset.class_names)
    validation, plan = variants.members[Split.VALIDATION], training_plan(config, prepared)
    data = TrainingData(prepared.read, variants.labels, variants.members[Split.TRAINING], classes)
    with terminal.waiting("Finding the learning rate"):
        attempts = learning_rate.find(data, validation, recipe_of(config), plan, deadline)
    if not attempts:
        rate = recipe_of(config).learning_rate
        terminal.say(f"--time_limit leaves no time to find the learning rate: it is {rate:g}.")
        return rate
    terminal.say(learning_rate.describe(attempts))
    return attempts[0].rate


def _fresh(
    config: RetrainConfig, prepared: PreparedDataset, samples: SamplingPlan
) -> tuple[Gather, np.ndarray, SamplingPlan]:
    """Return a reader, labels and samples; where no copies are stored, every sample is a new distorted copy."""
    variants = prepared.variants
    if config.distortion_copies or not prepared.extractor.distorter.distortions:
        return prepared.read, variants.labels, samples
    photos = samples.batches.ravel()
    read = prepared.read.with_copies(photos, [f"draw {number}" for number in range(len(photos))])
    rows = len(variants.labels) + np.arange(len(photos))
    labels = np.concatenate([variants.labels, variants.labels[photos]])
    return read, labels, replace(samples, batches=rows.reshape(samples.batches.shape))


def _say_which_was_kept(trained: TrainedHead, steps: int, terminal: Terminal) -> None:
    last = trained.history[-1].step
    (best,) = [row for row in trained.history if row.step == trained.step]
    early = f"Stopped after step {last}. " if last < steps - 1 else ""
    terminal.say(
        f"{early}Kept the weights of step {best.step}, where the validation accuracy was best "
        f"({best.validation_accuracy:.1%})."
    )


def _fine_tuned(
    candidate: Candidate, trained: TrainedHead, own: IntermediateFiles, display: Display, session: Session
) -> Candidate:
    """Return the candidate with its network fine-tuned, or as it is where that was no improvement."""
    checkpoint = own.fine_tuning(devices.worker_suffix(session.strategy))
    plan = fine_tuning_plan(candidate.config, candidate.prepared, checkpoint, session.strategy)
    _warn_of_rate(plan.recipe.learning_rate, session.terminal)
    prepared, steps, stopping, say = candidate.prepared, candidate.steps, session.stopping, session.terminal.say
    if is_over(stopping.deadline):
        say("--time_limit leaves no time for fine-tuning: the network is exported without it.")
        return replace(candidate, is_cut_short=True)
    with (
        display.fine_tuning(plan.steps if stopping.deadline is None else 0, steps) as shown,
        session.stoppable(shown.evaluation) as report,
    ):
        watched = replace(session, stopping=replace(stopping, watch=shown.step))
        result = fine_tune(prepared, trained, plan, watched, report)
    if stopping.asked.is_set():
        done = result.history[-1].step + 1
        say(f"Ctrl-C ended the fine-tuning after {plural(done, 'step')}: the same command goes on from there.")
    say(_outcome(result, steps))
    config = replace(candidate.config, fine_tune_learning_rate=plan.recipe.learning_rate)
    history = [*candidate.history, *(later(row, steps) for row in result.history)]
    candidate = replace(candidate, config=config, history=history, is_cut_short=stopping.asked.is_set())
    return _on(candidate, result.network, steps + result.best.step) if result.network else candidate


def _on(candidate: Candidate, network: FineTunedBackbone, step: int) -> Candidate:
    """Return the candidate with the network as it was fine-tuned until a step."""
    read = _by_photo(candidate.prepared, network)
    return replace(
        candidate,
        artefacts=replace(candidate.artefacts, runner=network.extractor.runner),
        head=network.head,
        step=step,
        read=read,
        read_exactly=read,
    )


def _outcome(result: FineTuningResult, steps: int) -> str:
    """Return the sentence about a fine-tuning after `steps` steps of the head's training."""
    before, best = result.history[0], result.best
    if len(result.history) == 1:
        return "There was no time for a step of fine-tuning: the network is exported without it."
    if result.network is None:
        return (
            f"Fine-tuning did not improve the validation accuracy of {before.validation_accuracy:.1%} (cross entropy "
            f"{before.validation_cross_entropy:.4f}): the network is exported without it."
        )
    return (
        f"Fine-tuning took the validation accuracy from {before.validation_accuracy:.1%} to "
        f"{best.validation_accuracy:.1%} and the cross entropy from {before.validation_cross_entropy:.4f} to "
        f"{best.validation_cross_entropy:.4f} (N={best.validation_count}), at step {steps + best.step}, whose weights "
        f"are kept."
    )


def _by_photo(prepared: PreparedDataset, network: FineTunedBackbone) -> Gather:
    """Return what gives the fine-tuned network's bottlenecks of photos, whose indices are those of all variants."""
    photos = {example.path: number for number, example in enumerate(prepared.dataset.examples)}

    def read(indices: np.ndarray) -> np.ndarray:
        return network.read(
            np.array([photos[prepared.variants.rows[index].path] for index in indices.tolist()], np.int64)
        )

    return read


def _warn_of_rate(rate: float, terminal: Terminal) -> None:
    """Warn of a step size that earlier versions, which trained by plain gradient descent, were given."""
    if rate > LARGEST_FINE_TUNING_RATE:
        terminal.warn(
            f"--fine_tune_learning_rate {rate:g} suits plain gradient descent; with AdamW, which fine-tunes now, it "
            f"destroys what the network has learnt. Leave it out, or give at most {LARGEST_FINE_TUNING_RATE:g}."
        )
