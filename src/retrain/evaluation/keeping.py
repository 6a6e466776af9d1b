"""Writes the report of a run, and keeps the run: its record, report, predictions and curves."""

import functools
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import PIL

from retrain import __version__
from retrain.evaluation import paired, runs
from retrain.evaluation.evidence import Evidence
from retrain.evaluation.page.build import NOTHING, page_of
from retrain.evaluation.page.facts import RunFacts
from retrain.evaluation.paired import PhotoPrediction
from retrain.evaluation.report import Report, TestScores, as_json, report_paths
from retrain.evaluation.runs import RunRecord
from retrain.files import write_result
from retrain.storage.folders import Folder


@dataclass(frozen=True)
class RunOrigin:
    """Where a run comes from: when it started, in seconds since 1970, by which words, from which photos.

    `settings` are those that were not left at their defaults, `tensorflow` is its version, which the graph names, too.
    """

    started: float
    command: Sequence[str]
    image_dir: Folder
    settings: Mapping[str, object]
    tensorflow: str | None


@dataclass(frozen=True)
class Results:
    """What a report shows: the figures, when and how the run was made (None where unknown), and single photos."""

    report: Report
    run: RunFacts | None = None
    evidence: Evidence = NOTHING

    @functools.cached_property
    def figures(self) -> bytes:
        """Return the figures as JSON."""
        return as_json(self.report)

    def page(self, image_dir: Folder, folder: Path) -> bytes:
        """Return the page for a folder, from where it links to the photos."""
        return page_of(self.report, self.evidence, image_dir=image_dir, folder=folder, run=self.run)


def write_report(results: Results, graph: Path, image_dir: Folder) -> None:
    """Write the report of a graph beside it, as a page and as JSON, each whole.

    Raises:
        ExportError: A file cannot be written.
    """
    page, figures = report_paths(graph)
    write_result(page, results.page(image_dir, page.parent))
    write_result(figures, results.figures)


def keep_run(
    folder: Path,
    name: str | None,
    results: Results,
    test: TestScores,
    *,
    curves: Mapping[str, Path],
    origin: RunOrigin,
) -> Path:
    """Keep a run in the folder of all runs, and return its own.

    Args:
        folder: The folder of all runs.
        name: Its name; by default the time when it started.
        results: How good it is.
        test: What it says of the test photos.
        curves: The event files of TensorBoard, by what they show.
        origin: Where it comes from.

    Raises:
        ExportError: It cannot be written.
    """
    report = results.report
    contents: dict[str, bytes | Path] = {
        runs.FIGURES: results.figures,
        runs.PAGE: results.page(origin.image_dir, folder / "run"),  # as deep as the run's own
        runs.PREDICTIONS: paired.encode(photo_predictions(report.class_names, test)),
        **{f"{part}/{path.name}": path for part, path in curves.items()},
    }
    return runs.keep(folder, name, make_record(report, origin, seconds=time.time() - origin.started), contents)


def photo_predictions(names: Sequence[str], test: TestScores) -> list[PhotoPrediction]:
    """Return what was said of each test photo, sorted by path; one that was sampled several times counts once."""
    rows = dict(sorted((path, row) for row, path in enumerate(test.paths)))
    photos = []
    for path, row in rows.items():
        scores = test.probabilities[row]
        predicted = int(scores.argmax())
        photos.append(PhotoPrediction(path, names[test.labels[row]], names[predicted], float(scores[predicted])))
    return photos


def make_record(report: Report, origin: RunOrigin, *, seconds: float) -> RunRecord:
    """Return the record of a run that took some seconds."""
    versions = {"retrain": __version__, "python": platform.python_version()}
    versions |= {"tensorflow": origin.tensorflow or "", "numpy": np.__version__, "pillow": PIL.__version__}
    folds = report.cross_validation
    return RunRecord(
        started=datetime.fromtimestamp(origin.started).astimezone().isoformat(timespec="milliseconds"),
        seconds=round(seconds, 2),
        command=origin.command,
        image_dir=str(origin.image_dir.absolute()),
        architecture=report.architecture,
        classes=report.class_names,
        photos=int(np.sum(report.counts)),
        steps=report.steps,
        random_seed=report.random_seed,
        test_accuracy=report.test_accuracy,
        test_interval=(report.test_interval.low, report.test_interval.high),
        test_count=report.test_count,
        graph_sha256=report.graph_sha256,
        settings=origin.settings,
        versions=versions,
        cross_validation=(folds.mean, folds.standard_deviation) if folds else (),
    )
