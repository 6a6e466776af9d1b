"""The report of a run: an HTML page, its figures as JSON, and the closing lines on the terminal."""

import base64
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from retrain.data.dataset import Dataset
from retrain.data.split import Split
from retrain.errors import printable
from retrain.evaluation import folds, metrics
from retrain.evaluation.comparison import FormatResult
from retrain.evaluation.evidence import Evidence
from retrain.evaluation.folds import CrossValidation
from retrain.evaluation.metrics import ClassFigures, Interval, Misclassified
from retrain.files import beside, write_result
from retrain.history import Evaluation

_SHOWN_AT_MOST = 60


@dataclass(frozen=True)
class Report:
    """The results of a run; the same seed and data give the same report.

    `steps` are those of the head's training that were taken. `settings` are those that were not left at their defaults;
    `fine_tune_steps` among them are those that were taken. `counts` has the numbers of training, validation and
    testing images for each class. `test_accuracy` is that of the written graph, None without test images.
    `test_count` counts the test images, a repeated one as often as it was sampled, and `test_photos` each once, from
    which `test_interval` follows. `confusion[i][j]` counts images of class i that were predicted as class j.
    `graph_sha256` is the hash of the graph. `cross_validation` is None where none was asked for.
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
    # A photo that was sampled several times is no more evidence, and is listed once.
    once = sorted({path: row for row, path in reversed(list(enumerate(test.paths)))}.values())
    photos = [test.paths[row] for row in once]
    return Report(
        **vars(run),
        class_names=names,
        counts=np.stack([dataset.counts(split) for split in Split], axis=1).tolist(),
        test_accuracy=metrics.accuracy(test.probabilities, test.labels) if count else None,
        test_cross_entropy=metrics.cross_entropy(test.probabilities, test.labels) if count else None,
        test_interval=metrics.wilson_interval(int(confusion.trace()) * len(once) / max(1, count), len(once)),
        test_count=count,
        test_photos=len(once),
        class_figures=metrics.class_figures(confusion),
        confusion=confusion.tolist(),
        misclassified=metrics.misclassified(photos, names, test.probabilities[once], test.labels[once]),
        rejected=rejected,
        notes=dataset.notes,
        measured=history,
        exports=exports,
        graph_sha256=test.graph_sha256,
    )


def result_line(report: Report) -> str:
    """Return the final accuracy of a run in a sentence."""
    if report.test_accuracy is None:
        return "Final test accuracy: not measured, because there are no test images."
    low, high = report.test_interval.low, report.test_interval.high
    return (
        f"Final test accuracy = {report.test_accuracy:.1%} (N={report.test_count}), "
        f"95% interval {low:.1%} to {high:.1%}{_repeated(report)}"
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


def _repeated(report: Report) -> str:
    """Return how many photos a result follows from, where some were sampled several times."""
    return "" if report.test_photos == report.test_count else f", of {report.test_photos} different photos"


def report_paths(graph: Path) -> tuple[Path, Path]:
    """Return where the report of a graph goes: an HTML page and its figures as JSON, beside it."""
    return beside(graph, ".report.html"), beside(graph, ".report.json")


def write_report(report: Report, graph: Path, image_dir: Path, evidence: Evidence | None = None) -> bytes:
    """Write the report as a self-contained page, with what `evidence` shows of photos, and as JSON, each whole.

    Returns:
        The JSON.

    Raises:
        ExportError: A file cannot be written.
    """
    page, figures = report_paths(graph)
    text = (json.dumps(without_nan(report), indent=1, default=str) + "\n").encode()
    write_result(page, page_of(report, image_dir, page.parent, evidence))
    write_result(figures, text)
    return text


def page_of(report: Report, image_dir: Path, folder: Path, evidence: Evidence | None = None) -> bytes:
    """Return the report as a self-contained HTML page in a folder, from where it links to photos without pictures."""
    return _page(report, image_dir, folder, evidence).encode("utf-8", "backslashreplace")


def without_nan(value: object) -> object:
    """Return a value of dicts, lists and dataclasses as JSON can hold it: NaN becomes null."""
    if hasattr(value, "__dataclass_fields__"):  # `asdict` copies each value, which takes longer than all the rest
        value = vars(value)
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _page(report: Report, image_dir: Path, folder: Path, evidence: Evidence | None) -> str:
    if report.test_accuracy is None:
        verdict = "not measured: no test images"
    else:
        low, high = report.test_interval.low, report.test_interval.high
        interval = f"95 % interval {low:.1%} to {high:.1%}{_repeated(report)}"
        verdict = f"{report.test_accuracy:.1%} <small>of {report.test_count} images; {interval}</small>"
    sections = [
        f"<h1>Test accuracy {verdict}</h1>",
        f"<p>{html.escape(report.architecture)}, {report.steps} steps at learning rate {report.learning_rate:g}, "
        f"seed {report.random_seed}.{_settings(report.settings)}</p>",
        *[f"<p class=note>{_text(note)}</p>" for note in report.notes],
        _folds(report),
        _curve(report.measured),
        _class_table(report),
        _confusion_table(report),
        _export_table(report.exports),
        _gallery(report.misclassified, image_dir, folder, evidence.pictures if evidence else {}),
        _rejected_list(report.rejected),
    ]
    return f"<!doctype html><meta charset=utf-8><title>retrain</title><style>{_STYLE}</style>\n" + "\n".join(sections)


def _settings(settings: dict[str, object]) -> str:
    named = ", ".join(f"{name} {_value(value)}" for name, value in settings.items())
    return f" Settings: {html.escape(named)}." if settings else ""


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 small { font-size: 55%; font-weight: normal; color: #666 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem; text-align: right }
th { font-weight: 600; border-bottom: 1px solid #ccc } td:first-child, th:first-child { text-align: left }
.note { background: #fff7df; padding: .3rem .8rem } svg { width: 100%; height: auto }
figure { display: inline-block; width: 9rem; margin: .4rem; vertical-align: top; font-size: .8rem }
img { width: 9rem; height: 9rem; object-fit: cover; background: #eee } figcaption { overflow-wrap: anywhere }
"""


def _text(text: str) -> str:
    return html.escape(printable(text))


def _folds(report: Report) -> str:
    result = report.cross_validation
    if result is None:
        return ""
    notes = "".join(f"<p class=note>{_text(note)}</p>" for note in folds.notes(result))
    rows = "".join(
        f"<tr><td>{number}<td>{count}<td>{_percent(accuracy)}"
        for number, (count, accuracy) in enumerate(zip(result.counts, result.accuracies, strict=True), 1)
    )
    low, high = result.interval.low, result.interval.high
    total = f"<tr><td>all<td>{result.photos}<td>{_percent(result.accuracy)}, 95 % interval {low:.1%} to {high:.1%}"
    table = f"<table><tr><th>fold<th>photos<th>accuracy{rows}{total}</table>"
    text = f"<p>{_text(folds.result_line(result))}.</p><p>{_text(folds.EXPLANATION)}</p>"
    return f"<h2>Cross-validation</h2>{text}{notes}{table}"


def _curve(measured: Sequence[Evaluation]) -> str:
    """Return the accuracies over the steps as a drawing."""
    if len(measured) < 2:
        return ""
    width, height, left = 900.0, 260.0, 45.0
    last = measured[-1].step or 1

    def line(colour: str, values: Sequence[float]) -> str:
        points = " ".join(
            f"{left + (width - left) * row.step / last:.1f},{height * (1 - value):.1f}"
            for row, value in zip(measured, values, strict=True)
            if not math.isnan(value)
        )
        return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'

    grid = "".join(
        f'<line x1="{left}" x2="{width}" y1="{height * (1 - share)}" y2="{height * (1 - share)}" stroke="#ddd"/>'
        f'<text x="0" y="{height * (1 - share) + 5}" font-size="13" fill="#666">{share:.0%}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    training = line("#e07b39", [row.train_accuracy for row in measured])
    validation = line("#2a6fb0", [row.validation_accuracy for row in measured])
    return (
        f"<h2>Accuracy by step</h2><p><b style='color:#e07b39'>training batch</b>, "
        f"<b style='color:#2a6fb0'>validation batch</b>, steps 0 to {last}</p>"
        f'<svg viewBox="0 -8 {width} {height + 16}">{grid}{training}{validation}</svg>'
    )


def _class_table(report: Report) -> str:
    head = "<tr><th>class<th>training<th>validation<th>testing<th>precision<th>recall<th>F1"
    rows = []
    unknown = [ClassFigures(math.nan, math.nan, math.nan, 0)] * len(report.class_names)
    all_figures = report.class_figures or unknown
    for name, counts, figures in zip(report.class_names, report.counts, all_figures, strict=True):
        shares = "".join(f"<td>{_percent(v)}" for v in (figures.precision, figures.recall, figures.f1))
        rows.append(f"<tr><td>{_text(name)}" + "".join(f"<td>{n}" for n in counts) + shares)
    return f"<h2>Classes</h2><table>{head}{''.join(rows)}</table>"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _confusion_table(report: Report) -> str:
    if not report.test_count:
        return ""
    if len(report.class_names) > _SHOWN_AT_MOST:
        return f"<p>The confusion matrix of {len(report.class_names)} classes is in the JSON file beside this page.</p>"
    head = "<tr><th>true \\ predicted" + "".join(f"<th>{_text(name)}" for name in report.class_names)
    rows = []
    for name, row in zip(report.class_names, report.confusion, strict=True):
        most = max(1, sum(row))
        cells = "".join(f'<td style="background:rgba(42,111,176,{0.7 * n / most:.2f})">{n or ""}' for n in row)
        rows.append(f"<tr><td>{_text(name)}{cells}")
    return f"<h2>Confusion matrix</h2><table>{head}{''.join(rows)}</table>"


def _export_table(exports: Sequence[FormatResult]) -> str:
    if not exports:
        return ""
    head = "<tr><th>format<th>file<th>bytes<th>ms an image<th>test accuracy<th>agrees with the graph<th>allowed"
    rows = "".join(
        f"<tr><td>{_text(row.name)}<td>{_text(row.path.name)}<td>{row.bytes:,}<td>{row.milliseconds:.2f}"
        f"<td>{'' if row.accuracy is None else _percent(row.accuracy)}<td>{_percent(row.agreement)}<td>{row.allowed}"
        for row in exports
    )
    return f"<h2>Formats</h2><table>{head}{rows}</table>"


def _gallery(
    misclassified: Sequence[Misclassified], image_dir: Path, folder: Path, pictures: Mapping[str, bytes]
) -> str:
    if not misclassified:
        return ""
    figures = "".join(
        f'<figure><img loading=lazy alt="" src="{_source(row.path, image_dir, folder, pictures)}"><figcaption>'
        f"{_text(row.path)}: predicted <b>{_text(row.predicted)}</b> ({row.score:.2f})</figcaption></figure>"
        for row in misclassified[:_SHOWN_AT_MOST]
    )
    count, note = len(misclassified), ""
    if count > _SHOWN_AT_MOST:
        note = f"<p>The first {_SHOWN_AT_MOST} of {count}; the JSON file beside this page lists all.</p>"
    return f"<h2>Misclassified test images ({count})</h2>{note}{figures}"


def _source(path: str, image_dir: Path, folder: Path, pictures: Mapping[str, bytes]) -> str:
    if path in pictures:
        return f"data:image/jpeg;base64,{base64.b64encode(pictures[path]).decode()}"
    return _link(image_dir / path, folder)


def _link(path: Path, folder: Path) -> str:
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return quote(os.fsencode(Path(relative).as_posix()))


def _rejected_list(rejected: dict[str, str]) -> str:
    if not rejected:
        return ""
    rows = "".join(f"<tr><td>{_text(path)}<td>{_text(reason)}" for path, reason in rejected.items())
    return f"<h2>Skipped files ({len(rejected)})</h2><table>{rows}</table>"
