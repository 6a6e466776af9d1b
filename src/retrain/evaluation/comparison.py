"""Writes the formats of --export, and compares each with the frozen graph in its own runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.errors import ExportError, plural
from retrain.evaluation import metrics
from retrain.evaluation.fresh_process import FileScores, score_file
from retrain.files import size_of
from retrain.formats import table as formats
from retrain.formats.classifier import ExportSource
from retrain.storage.folders import Folder

GRAPH = "frozen graph"


@dataclass(frozen=True)
class FormatResult:
    """The comparison of one exported file with the frozen graph.

    `accuracy` is that on the test images, None without any. `agreement` is the share of the images that the frozen
    graph gives the same class, `disagreements` the number of those whose difference its tolerance does not explain.
    `allowed` says what a difference may be; `bytes` counts the file, or all files of a folder.
    """

    name: str
    path: Path
    bytes: int
    milliseconds: float
    accuracy: float | None
    agreement: float
    disagreements: int
    allowed: str


@dataclass(frozen=True)
class Comparison:
    """The images that formats are compared on.

    `labels` int64 [N] are their class ids, None where the images are not for testing. `max_drop` is how much accuracy a
    format may lose, 0 to 1.
    """

    images: Sequence[Folder]
    labels: np.ndarray | None
    max_drop: float


@dataclass(frozen=True)
class ExportReport:
    """The results of all files, that of the frozen graph first, and what is wrong with them."""

    results: list[FormatResult]
    problems: list[str]


def export_and_compare(
    names: Sequence[str],
    source: ExportSource,
    graph: Path,
    comparison: Comparison,
    *,
    put_in_place: Callable[[Path], Path] = lambda path: path,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Write formats of a classifier beside its frozen graph, and return how they compare with it.

    Args:
        names: Keys of `formats.table.EXPORTS`.
        source: The classifier.
        graph: The file of its frozen graph.
        comparison: The images to compare on.
        put_in_place: Gives a file that was compared its path, which it returns, where `graph` is a draft.
        advance: Called with the formats done and the formats in all.

    Raises:
        ExportError: The frozen graph cannot be read back; errors of other formats are among the problems.
    """
    expected = score_file(graph, comparison.images)
    results: list[FormatResult] = []
    problems = []
    for done, name in enumerate(names, 1):
        export = formats.EXPORTS[name]
        try:
            path = formats.write(name, source, graph)
            scores = score_file(path, comparison.images)
            decoded = score_file(path, comparison.images, encoded=True) if export.decodes else None
            path = put_in_place(path)
            results.append(compare(name, path, scores, expected, comparison, tolerance=export.tolerance))
            if decoded:
                results += _compare_decoded(f"{name}, image files", path, decoded, expected, comparison)
        except ExportError as error:  # costs this format only
            problems.append(str(error).rstrip("."))
        advance(done, len(names))
    reference = replace(compare(GRAPH, put_in_place(graph), expected, expected, comparison, tolerance=None), allowed="")
    problems += find_problems(reference, results, max_drop=comparison.max_drop)
    return ExportReport([reference, *results], problems)


def _compare_decoded(
    name: str, path: Path, scores: FileScores, expected: FileScores, comparison: Comparison
) -> list[FormatResult]:
    """Compare on those images only that a model decoded, none for none: TensorFlow does not decode TIFF."""
    rows = np.isfinite(scores.probabilities).all(axis=1)
    if not rows.any():
        return []
    labels = None if comparison.labels is None else comparison.labels[rows]
    scores, expected = (replace(each, probabilities=each.probabilities[rows]) for each in (scores, expected))
    return [compare(name, path, scores, expected, replace(comparison, labels=labels), tolerance=None)]


def compare(
    name: str, path: Path, scores: FileScores, expected: FileScores, comparison: Comparison, *, tolerance: float | None
) -> FormatResult:
    """Return how the scores of a file compare with those expected, of the frozen graph.

    Where `tolerance` is not None, probabilities may be off by that much; else the accuracy alone counts.
    """
    ours, theirs = scores.probabilities, expected.probabilities
    return FormatResult(
        name,
        path,
        size_of(path),
        scores.milliseconds,
        None if comparison.labels is None else metrics.accuracy(ours, comparison.labels),
        float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1))),
        0 if tolerance is None else len(find_disagreements(ours, theirs, tolerance)),
        f"{comparison.max_drop:.1%} less accuracy" if tolerance is None else f"ties of {tolerance:g}",
    )


def find_disagreements(scored: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the indices of images that two models give different classes, int64 [n], ties left out; NaN is no class.

    Where each probability may be off by the tolerance, two classes that are no further apart than twice that are tied.
    Both models' probabilities are float32 [N, C].
    """
    rows = np.arange(len(scored))
    theirs, ours = expected.argmax(axis=1), scored.argmax(axis=1)
    lead = expected[rows, theirs] - expected[rows, ours]
    apart = (theirs != ours) & (lead > 2 * tolerance)
    return np.flatnonzero(apart | ~np.isfinite(scored).all(axis=1))


def find_problems(graph: FormatResult, results: Sequence[FormatResult], *, max_drop: float) -> list[str]:
    """Return what is wrong with exported files, a sentence each; each may lose `max_drop` of accuracy, 0 to 1."""
    problems = []
    for row in results:
        lost = 0.0 if row.accuracy is None or graph.accuracy is None else graph.accuracy - row.accuracy
        if row.disagreements:
            images = plural(row.disagreements, "image")
            problems.append(f"{row.name} gives {images} another class than the frozen graph")
        elif lost > max_drop + 1e-9:
            problems.append(f"{row.name} loses {lost:.1%} accuracy, more than --max_accuracy_drop {max_drop:g}")
    return problems


def table(results: Sequence[FormatResult]) -> list[str]:
    """Return the lines of a table: a heading, and one for each file, that of the frozen graph first."""
    rows = [("format", "file", "bytes", "ms/image", "test accuracy", "agreement", "allowed")]
    for row in results:
        accuracy = "-" if row.accuracy is None else f"{row.accuracy:.1%}"
        agreement = "-" if row is results[0] else f"{row.agreement:.1%}"
        figures = f"{row.bytes:,}", f"{row.milliseconds:.2f}", accuracy, agreement
        rows.append((row.name, str(row.path), *figures, row.allowed))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = (0, 1, len(widths) - 1)  # columns of words, which begin at the left
    return [
        "  ".join(row[i].ljust(width) if i in texts else row[i].rjust(width) for i, width in enumerate(widths)).rstrip()
        for row in rows
    ]
