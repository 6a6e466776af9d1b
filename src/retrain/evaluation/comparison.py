"""Writes every format that was asked for, and compares each with the frozen graph in its own runtime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.errors import ExportError
from retrain.evaluation import fresh_process, metrics
from retrain.files import size_of
from retrain.formats import table as format_table
from retrain.formats.table import FORMATS, ExportSource


@dataclass(frozen=True)
class FormatResult:
    """What one exported file is worth.

    `accuracy` is that on the test images, None without any. `agreement` is the share of the images that the frozen
    graph gives the same class, `apart` the number of those whose difference its tolerance does not explain.
    `allowed` says what a difference may be; `bytes` counts the file, or all files of a folder.
    """

    name: str
    path: Path
    bytes: int
    milliseconds: float
    accuracy: float | None
    agreement: float
    apart: int
    allowed: str


def find_disagreements(scored: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the indices of images that two models give different classes, int64 [n], ties left out; NaN is no class.

    Where each probability may be off by the tolerance, two classes that are no further apart than twice that are tied.

    Args:
        scored: Of the one model, float32 [N, C].
        expected: Of the other.
        tolerance: How far a probability may be from the other's.
    """
    rows = np.arange(len(scored))
    theirs, ours = expected.argmax(axis=1), scored.argmax(axis=1)
    lead = expected[rows, theirs] - expected[rows, ours]
    apart = (theirs != ours) & (lead > 2 * tolerance)
    return np.flatnonzero(apart | ~np.isfinite(scored).all(axis=1))


def compare(
    name: str,
    path: Path,
    scored: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray | None,
    *,
    milliseconds: float,
    tolerance: float | None,
    max_drop: float,
) -> FormatResult:
    """Return what a file is worth whose probabilities are `scored`, where the frozen graph's are `expected`.

    Args:
        name: Of its format.
        path: The file.
        scored: float32 [N, C].
        expected: float32 [N, C].
        labels: int64 [N], class ids; None where the images say nothing of the accuracy.
        milliseconds: What an image takes.
        tolerance: How far a probability may be off, None where the accuracy alone counts.
        max_drop: How much accuracy it may lose, 0 to 1.
    """
    return FormatResult(
        name,
        path,
        size_of(path),
        milliseconds,
        None if labels is None else metrics.accuracy(scored, labels),
        float(np.mean(scored.argmax(axis=1) == expected.argmax(axis=1))),
        0 if tolerance is None else len(find_disagreements(scored, expected, tolerance)),
        f"{max_drop:.1%} less accuracy" if tolerance is None else f"ties of {tolerance:g}",
    )


def find_problems(graph: FormatResult, checked: Sequence[FormatResult], *, max_drop: float) -> list[str]:
    """Return what is wrong with exported files, a sentence each.

    Args:
        graph: The frozen graph.
        checked: The files.
        max_drop: How much accuracy each may lose, 0 to 1.
    """
    found = []
    for row in checked:
        lost = 0.0 if row.accuracy is None or graph.accuracy is None else graph.accuracy - row.accuracy
        if row.apart:
            found.append(f"{row.name} gives {row.apart} image(s) another class than the frozen graph")
        elif lost > max_drop + 1e-9:
            found.append(f"{row.name} loses {lost:.1%} accuracy, more than --max_accuracy_drop {max_drop:g}")
    return found


def table(graph: FormatResult, checked: Sequence[FormatResult]) -> list[str]:
    """Return what the files are worth as lines: a head, the frozen graph, and one for each file."""
    rows = [("format", "file", "bytes", "ms/image", "test accuracy", "agreement", "allowed")]
    for row in (graph, *checked):
        accuracy = "-" if row.accuracy is None else f"{row.accuracy:.1%}"
        agreement = "-" if row is graph else f"{row.agreement:.1%}"
        rows.append(
            (row.name, str(row.path), f"{row.bytes:,}", f"{row.milliseconds:.2f}", accuracy, agreement, row.allowed)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = (0, 1, len(widths) - 1)  # columns of words, which begin at the left
    return [
        "  ".join(row[i].ljust(width) if i in texts else row[i].rjust(width) for i, width in enumerate(widths)).rstrip()
        for row in rows
    ]


GRAPH = "frozen graph"
ENCODED = "saved_model, image files"  # which it decodes itself


@dataclass(frozen=True)
class ExportReport:
    """What was written: the frozen graph that all is compared with, the other files, and what is wrong with them."""

    graph: FormatResult
    checked: list[FormatResult]
    problems: list[str]


def export_and_compare(
    names: Sequence[str],
    found: ExportSource,
    *,
    images: Sequence[Path],
    labels: np.ndarray | None,
    max_drop: float,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ExportReport:
    """Return what the formats of a classifier are worth, after writing them.

    Args:
        names: Keys of `exportable.FORMATS`.
        found: The classifier.
        images: Image files to compare on.
        labels: int64 [N], their class ids; None where they say nothing of the accuracy.
        max_drop: How much accuracy a format may lose, 0 to 1.
        advance: Called with the formats done and the formats in all.

    Raises:
        ExportError: The frozen graph cannot be read back; what befalls another format is among the problems.
    """
    expected = fresh_process.score_file(found.graph, images)

    everything = np.ones(len(images), bool)

    def checked(
        name: str, path: Path, scored: fresh_process.FileScores, tolerance: float | None, known: np.ndarray = everything
    ) -> FormatResult:
        return compare(
            name,
            path,
            scored.probabilities[known],
            expected.probabilities[known],
            None if labels is None else labels[known],
            milliseconds=scored.milliseconds,
            tolerance=tolerance,
            max_drop=max_drop,
        )

    rows: list[FormatResult] = []
    problems = []
    for done, name in enumerate(names, 1):
        try:
            path = format_table.write(name, found)
            rows.append(checked(name, path, fresh_process.score_file(path, images), FORMATS[name].tolerance))
            if name == "saved_model":
                encoded = fresh_process.score_file(path, images, encoded=True)
                known = np.isfinite(encoded.probabilities).all(axis=1)  # TensorFlow does not decode TIFF
                rows += [checked(ENCODED, path, encoded, None, known)] if known.any() else []
        except ExportError as error:  # costs this format only
            problems.append(str(error).rstrip("."))
        advance(done, len(names))
    graph = replace(checked(GRAPH, found.graph, expected, None), allowed="")
    return ExportReport(graph, rows, problems + find_problems(graph, rows, max_drop=max_drop))
