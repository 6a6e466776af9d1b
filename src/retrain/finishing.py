"""The end of a run: writes the classifier and its formats, measures them on the test images, and reports."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from retrain import boards, doubts, files, folds, showing
from retrain.backbones import quantized
from retrain.backbones.engines import INT8
from retrain.candidates import Candidate, checkpoint_files
from retrain.closing import Closing
from retrain.config import RetrainConfig
from retrain.data.split import Split
from retrain.data.variants import Variant
from retrain.errors import ExportError
from retrain.evaluation import comparison, keeping, runs, tensorboard
from retrain.evaluation import report as reports
from retrain.evaluation.comparison import Comparison, ExportReport, export_and_compare
from retrain.evaluation.keeping import Results, RunOrigin
from retrain.evaluation.page.facts import RunFacts, TrialFigures
from retrain.evaluation.report import Report, RunSettings, TestScores
from retrain.evaluation.tensorboard import TRAIN, Summaries
from retrain.export import LabelledBottlenecks, WrittenGraph
from retrain.formats import table as formats
from retrain.formats.classifier import ExportSource
from retrain.storage.folders import Folder
from retrain.terminal import Terminal
from retrain.time_limit import TimeLimit
from retrain.training import sampling

# Settings that the report has in another place, or not at all.
_ELSEWHERE = ("architecture", "learning_rate", "random_seed", "export", "max_accuracy_drop", "run_name", "folds")
SAMPLE_IMAGES = 200  # training images that show 8-bit arithmetic the range of activations


@dataclass(frozen=True)
class Start:
    """When a run started, in seconds since 1970, by which words, and when it should end."""

    time: float
    command: Sequence[str]
    limit: TimeLimit


@dataclass(frozen=True)
class _Written:
    """The classifier's files: the graph, what it says of the test photos, and how the formats of --export compare."""

    graph: WrittenGraph
    test: TestScores
    exported: ExportReport | None


def finish(chosen: Candidate, start: Start, terminal: Terminal) -> Report:
    """Write everything, measure the written graph on the test images, and report.

    Raises:
        RetrainError: Something cannot be written, or a format is not what was trained. The report is written before
            TensorBoard's files and the kept run are, and without them.
    """
    config, prepared = chosen.config, chosen.prepared
    rows = _sample(chosen, Split.TESTING, config.test_batch_size)
    cross_validated = folds.cross_validate(chosen, terminal)
    written = _write(chosen, chosen.labelled(rows, chosen.read_exactly), terminal)
    report = reports.make_report(
        _run_settings(chosen),
        prepared.dataset,
        written.test,
        rejected=prepared.rejected,
        history=chosen.history,
        exports=written.exported.results if written.exported else [],
    )
    with terminal.waiting("Looking for what is wrong with photos"):
        findings = doubts.doubts_of(chosen, rows, written.test)
    report = replace(report, cross_validation=cross_validated, findings=findings)
    with terminal.waiting("Looking at single photos"):
        evidence = showing.evidence_of(chosen, rows, written.test)
    results = Results(report, _facts(chosen, start), evidence)
    keeping.write_report(results, config.output_graph, prepared.dataset.image_dir)
    _show_and_keep(chosen, start, results, written, terminal)
    with terminal.closing(_closing(chosen, report)):
        worst: dict[str, str] = {}
        for finding in report.findings:
            worst.setdefault(finding.kind, finding.sentence)
        for sentence in worst.values():  # the report has all
            terminal.warn(sentence)
        _say_what_does_not_belong(chosen, report, written.graph, terminal)
        if (seconds := start.limit.exceeded()) >= 1:
            terminal.warn(f"All this took {seconds:.0f} s more than --time_limit.")
        if written.exported:
            terminal.say_all(comparison.table(written.exported.results))
            if problems := written.exported.problems:
                raise ExportError(f"{'; '.join(problems)}. All other results are written, and files are kept.")
    return report


def _write(chosen: Candidate, test: LabelledBottlenecks, terminal: Terminal) -> _Written:
    """Write the checkpoint, the classifier and all its formats."""
    config, prepared = chosen.config, chosen.prepared
    chosen.artefacts.write_checkpoint(checkpoint_files(config), chosen.head, chosen.step + 1)
    with files.draft_folder(config.output_graph) as folder:
        draft = folder / config.output_graph.name
        with terminal.waiting("Writing the graph"):
            graph = chosen.artefacts.write(draft, chosen.head, test)
        # Only a graph that passed takes the place of the last one.
        chosen.artefacts.put_in_place(draft, config.output_graph, config.output_labels)
        if config.saved_model_dir:
            chosen.artefacts.write_saved_model(config.saved_model_dir, graph)
        paths = [prepared.variants.rows[row].path for row in test.rows.tolist()]
        scores = TestScores(paths, graph.probabilities, test.labels, graph.sha256)
        exported = _export(chosen, draft, graph, scores, terminal) if config.export else None
    return _Written(graph, scores, exported)


def _show_and_keep(chosen: Candidate, start: Start, results: Results, written: _Written, terminal: Terminal) -> None:
    """Show the run on TensorBoard, and keep it with its curves among all runs."""
    _show_graph(chosen, written.graph)
    pictures = results.evidence.pictures
    shown = boards.show(chosen, results.report, written.test, pictures, limit=start.limit, terminal=terminal)
    folder, origin = runs.folder_of(chosen.config.output_graph), _origin(chosen, start, written.graph)
    curves = {**chosen.curves, **shown}
    keeping.keep_run(folder, chosen.config.run_name, results, written.test, curves=curves, origin=origin)


def _facts(chosen: Candidate, start: Start) -> RunFacts:
    """Return what the page says of the run besides its report."""
    backbone, taken = chosen.prepared.backbone, chosen.prepared.backbone.input
    size = files.size_of(backbone.graph) / 1e6
    last = chosen.history[-1].step if chosen.history else chosen.step
    return RunFacts(
        date=datetime.fromtimestamp(start.time).astimezone().isoformat(timespec="seconds"),
        seconds=time.time() - start.time,
        command=start.command,
        network=f"{taken.width} x {taken.height} px, {backbone.dimension:,} features, {size:.1f} MB",
        kept_step=None if chosen.step == last else chosen.step,
        trials=[TrialFigures(**vars(result)) for result in chosen.ranked],
    )


def _origin(chosen: Candidate, start: Start, written: WrittenGraph) -> RunOrigin:
    changed = {name: value for name, value in chosen.config.changed().items() if name != "image_dir"}
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

    rows = _sample(chosen, Split.TRAINING, SAMPLE_IMAGES).tolist()
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
    others = {name: value for name, value in config.changed().items() if name not in _ELSEWHERE}
    changed = {name: value for name, value in others.items() if not isinstance(value, Folder)}
    if config.fine_tune_from:
        changed["fine_tune_steps"] = chosen.history[-1].step + 1 - chosen.steps
    architecture = config.tfhub_module or config.architecture
    return RunSettings(architecture, chosen.steps, float(config.learning_rate), config.random_seed, changed)


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
    graph = config.output_graph
    return ["runs"] if graph == RetrainConfig.output_graph else ["runs", "--output_graph", str(graph)]


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
