"""The report of a run: its values, the same as JSON, and the closing lines on the terminal."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from retrain.data.dataset import Dataset
from retrain.data.split import Split
from retrain.evaluation import folds, metrics, overfitting
from retrain.evaluation.comparison import FormatResult
from retrain.evaluation.folds import CrossValidation
from retrain.evaluation.metrics import Calibration, ClassFigures, Interval, Misclassified
from retrain.evaluation.overfitting import Overfitting
from retrain.files import beside
from retrain.history import Evaluation


@dataclass(frozen=True)
class Doubt:
    """Something that is wrong with photos, named by their paths, and touches the figures of a run.

    `kind`, `severity` 0 to 1, `sentence`, `photos` and `figures` are those of a finding of `check_images`.
    """

    kind: str
    severity: float
    sentence: str
    photos: Sequence[str]
    figures: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a run; the same seed and data give the same report.

    `steps` are those of the head's training that were taken. `settings` are those that were not left at their defaults;
    `fine_tune_steps` among them are those that were taken. `counts` has the numbers of training, validation and
    testing images for each class. `test_accuracy` is that of the written graph, None without test images.
    `test_count` counts the test images, a repeated one as often as it was sampled, and `test_photos` each once, from
    which `test_interval` follows. `confusion[i][j]` counts images of class i that were predicted as class j.
    `graph_sha256` is the hash of the graph. `cross_validation` is None where there was none. `calibration` says whether
    the scores of the test photos can be believed, `overfitting` whether the training learnt its photos by heart.
    `findings` are what is wrong with the photos and touches these figures.
    """

    architecture: str
    class_names: Sequence[str]
    counts: Sequence[Sequence[int]]
    steps: int
    learning_rate: float
    random_seed: int
    settings: dict[str, object]
    test_accuracy: float | None
    test_cross_entropy: float | None
    test_interval: Interval
    test_count: int
    test_photos: int
    class_figures: Sequence[ClassFigures]
    confusion: Sequence[Sequence[int]]
    misclassified: Sequence[Misclassified]
    rejected: dict[str, str]
    notes: Sequence[str]
    measured: Sequence[Evaluation] = field(default_factory=list)
    exports: Sequence[FormatResult] = ()
    graph_sha256: str | None = None
    cross_validation: CrossValidation | None = None
    calibration: Calibration
    overfitting: Overfitting
    findings: Sequence[Doubt] = ()


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run, as in `Report`."""

    architecture: str
    steps: int
    learning_rate: float
    random_seed: int
    settings: dict[str, object]


@dataclass(frozen=True)
class TestScores:
    """The scores of the written graph, which `graph_sha256` identifies, on the test photos.

    `paths` are below the image folder; `probabilities` float32 [n, C]; `labels` int64 [n] are their class ids.
    """

    paths: Sequence[str]
    probabilities: np.ndarray
    labels: np.ndarray
    graph_sha256: str | None = None

    @property
    def once(self) -> list[int]:
        """Return the first row of each photo, in their order: sampled several times, it is no more evidence."""
        return sorted({path: row for row, path in reversed(list(enumerate(self.paths)))}.values())


def make_report(
    run: RunSettings,
    dataset: Dataset,
    test: TestScores,
    *,
    rejected: dict[str, str],
    history: Sequence[Evaluation],
    exports: Sequence[FormatResult],
) -> Report:
    """Return the report of a run."""
    count, names = len(test.labels), dataset.class_names
    confusion = metrics.confusion_matrix(test.probabilities, test.labels)
    once, photos, scores, labels = test.once, test.paths, test.probabilities, test.labels
    if len(once) < count:  # a copy of a million rows of scores is worth avoiding
        photos, scores, labels = [photos[row] for row in once], scores[once], labels[once]
    return Report(
        **vars(run),
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        test_accuracy=metrics.accuracy(test.probabilities, test.labels) if count else None,
        test_cross_entropy=metrics.cross_entropy(test.probabilities, test.labels) if count else None,
        test_interval=metrics.wilson_interval(int(confusion.trace()) * len(once) / max(1, count), len(once)),
        test_count=count,
        test_photos=len(once),
        class_figures=metrics.with_intervals_of(
            metrics.class_figures(confusion), metrics.confusion_matrix(scores, labels)
        ),
        confusion=confusion.tolist(),
        misclassified=metrics.misclassified(photos, names, scores, labels),
        rejected=rejected,
        notes=dataset.notes,
        measured=history,
        exports=exports,
        graph_sha256=test.graph_sha256,
        calibration=metrics.calibration(scores, labels),
        overfitting=overfitting.judge(history),
    )


def result_line(report: Report) -> str:
    """Return the final accuracy of a run in a sentence."""
    if report.test_accuracy is None:
        return "Final test accuracy: not measured, because there are no test images."
    return (
        f"Final test accuracy = {report.test_accuracy:.1%} (N={report.test_count}), "
        f"95% interval {report.test_interval}{repeated(report)}"
    )


def cross_validation_lines(report: Report) -> list[str]:
    """Return the result of the cross-validation and what to know about it; nothing without one."""
    result = report.cross_validation
    return [folds.result_line(result), *folds.notes(result)] if result else []


def misclassified_lines(report: Report) -> list[str]:
    """Return a heading and the test images that were wrong; nothing without test images."""
    if report.test_accuracy is None:
        return []
    return [
        "=== MISCLASSIFIED TEST IMAGES ===",
        *(
            f"{row.path:>70}  {row.predicted} (score={row.score:.5f}, true label {row.true})"
            for row in report.misclassified
        ),
    ]


def repeated(report: Report) -> str:
    """Return how many photos a result follows from, where some were sampled several times."""
    return "" if report.test_photos == report.test_count else f", of {report.test_photos} different photos"


def report_paths(graph: Path) -> tuple[Path, Path]:
    """Return where the report of a graph goes: an HTML page and its figures as JSON, beside it."""
    return beside(graph, ".report.html"), beside(graph, ".report.json")


def as_json(report: Report) -> bytes:
    """Return the report as JSON: the same bytes for the same photos and seed."""
    return (json.dumps(without_nan(report), indent=1, default=str) + "\n").encode()


def without_nan(value: object) -> object:
    """Return a value of dicts, lists and dataclasses as JSON can hold it: NaN becomes null."""
    if hasattr(value, "__dataclass_fields__"):  # `asdict` copies each value, which takes longer than all the rest
        value = vars(value)
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
