"""Compares exported files with the frozen graph that they come from, on the test images, each in its own runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import evaluation


@dataclass(frozen=True)
class Checked:
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


def differing(scored: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
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


def compared(
    name: str,
    path: Path,
    scored: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray | None,
    *,
    milliseconds: float,
    tolerance: float | None,
    max_drop: float,
) -> Checked:
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
    return Checked(
        name,
        path,
        size(path),
        milliseconds,
        None if labels is None else evaluation.accuracy(scored, labels),
        float(np.mean(scored.argmax(axis=1) == expected.argmax(axis=1))),
        0 if tolerance is None else len(differing(scored, expected, tolerance)),
        f"{max_drop:.1%} less accuracy" if tolerance is None else f"ties of {tolerance:g}",
    )


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def problems(graph: Checked, checked: Sequence[Checked], *, max_drop: float) -> list[str]:
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


def table(graph: Checked, checked: Sequence[Checked]) -> list[str]:
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
