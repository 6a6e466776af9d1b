"""Writes every format that was asked for, and measures each where it will run: in a process of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain import exports, scoring, verification
from retrain.errors import ExportError
from retrain.exportable import FORMATS
from retrain.exports import Classified
from retrain.verification import Checked

GRAPH = "frozen graph"
ENCODED = "saved_model, image files"  # which it decodes itself


@dataclass(frozen=True)
class Delivered:
    """What was written: the frozen graph that all is compared with, the other files, and what is wrong with them."""

    graph: Checked
    checked: list[Checked]
    problems: list[str]


def deliver(
    names: Sequence[str],
    found: Classified,
    *,
    images: Sequence[Path],
    labels: np.ndarray | None,
    max_drop: float,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Delivered:
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
    expected = scoring.score(found.graph, images)

    everything = np.ones(len(images), bool)

    def checked(
        name: str, path: Path, scored: scoring.Scores, tolerance: float | None, known: np.ndarray = everything
    ) -> Checked:
        return verification.compared(
            name,
            path,
            scored.probabilities[known],
            expected.probabilities[known],
            None if labels is None else labels[known],
            milliseconds=scored.milliseconds,
            tolerance=tolerance,
            max_drop=max_drop,
        )

    rows: list[Checked] = []
    problems = []
    for done, name in enumerate(names, 1):
        try:
            path = exports.write(name, found)
            rows.append(checked(name, path, scoring.score(path, images), FORMATS[name].tolerance))
            if name == "saved_model":
                encoded = scoring.score(path, images, encoded=True)
                known = np.isfinite(encoded.probabilities).all(axis=1)  # TensorFlow does not decode TIFF
                rows += [checked(ENCODED, path, encoded, None, known)] if known.any() else []
        except ExportError as error:  # costs this format only
            problems.append(str(error).rstrip("."))
        advance(done, len(names))
    graph = replace(checked(GRAPH, found.graph, expected, None), allowed="")
    return Delivered(graph, rows, problems + verification.problems(graph, rows, max_drop=max_drop))
