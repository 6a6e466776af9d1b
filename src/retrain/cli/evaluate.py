"""What `evaluate` does and prints."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrain.cli import flags
from retrain.cli.console import DONE, quieten
from retrain.errors import printable

if TYPE_CHECKING:
    from retrain.evaluation.folder import FolderEvaluation

_COLUMNS_AT_MOST = 12  # classes in a confusion matrix that is still read on a terminal
_ROWS_AT_MOST = 20


def main(arguments: Sequence[str]) -> int:
    """Print how good a model is on a folder and return the exit code.

    Raises:
        RetrainError: Something that the user can mend.
    """
    given = flags.parse(flags.evaluate_parser(), arguments)
    graph = given.model or given.graph
    quieten(verbose=given.verbose)
    from retrain import files
    from retrain.data.split import Split, SplitRule
    from retrain.evaluation.folder import evaluate
    from retrain.inference import loading as model_loading
    from retrain.terminal import Terminal

    if given.predictions:
        files.check_writable(given.predictions)
    found = evaluate(
        model_loading.load(graph, labels=given.labels, overrides=flags.own_metadata(given)),
        given.image_dir,
        split=None if given.split == flags.ALL else Split(given.split),
        rule=SplitRule(given.validation_percentage, given.testing_percentage),
        advance=Terminal().progress("Evaluating", "image"),
    )
    for name in found.unknown:
        print(printable(f"evaluate: the model has no class for the folder {name!r}, left out"), file=sys.stderr)
    for path, reason in found.rejected.items():
        print(printable(f"evaluate: {path}: {reason}, left out"), file=sys.stderr)
    if given.predictions:
        files.write_result(given.predictions, _predictions(found).encode("utf-8", "surrogateescape"))
    if given.json:
        print(json.dumps(_as_json(found, graph=graph, image_dir=given.image_dir, split=given.split)))
    else:
        print("\n".join(printable(line) for line in _lines(found, split=given.split)))
    return DONE


def _lines(found: "FolderEvaluation", *, split: str) -> list[str]:
    figures = found.figures
    low, high = figures.interval.low, figures.interval.high
    rows = [
        f"Accuracy: {figures.accuracy:g} (N={len(found.labels)}, 95% interval {low:.1%} to {high:.1%})",
        f"Cross Entropy: {figures.cross_entropy:g}",
    ]
    if split != flags.ALL:
        rows.append(f"These are the {split} images of the folder; --split all takes every image.")
    shown = [i for i, own in enumerate(figures.classes) if own.count or figures.confusion[:, i].any()]
    names = [found.names[i] for i in shown]
    width = max(len(name) for name in [*names, "class"])
    rows += ["", f"{'class':<{width}}  images  precision  recall      F1"]
    for name, own in zip(names, (figures.classes[i] for i in shown), strict=True):
        shares = (_percent(own.precision, 9), _percent(own.recall, 6), _percent(own.f1, 6))
        rows.append(f"{name:<{width}}  {own.count:>6}  {'  '.join(shares)}")
    rows += ["", *_confusion(found, shown)]
    wrong = found.misclassified
    if wrong:
        rows += ["", f"Misclassified ({len(wrong)}):"]
        rows += [f"{row.path}  {row.predicted} (score={row.score:.5f}, true label {row.true})" for row in wrong]
    return rows


def _percent(value: float, width: int) -> str:
    return " " * width if value != value else f"{value:>{width}.1%}"


def _confusion(found: "FolderEvaluation", shown: Sequence[int]) -> list[str]:
    """Return the confusion matrix, or, of too many classes for a terminal, what was confused most often."""
    confusion, names = found.figures.confusion, found.names
    if len(shown) > _COLUMNS_AT_MOST:
        pairs = [(int(confusion[i, j]), i, j) for i in shown for j in shown if i != j and confusion[i, j]]
        worst = sorted(pairs, key=lambda pair: (-pair[0], pair))[:_ROWS_AT_MOST]
        return ["Most often confused:", *(f"{names[i]} taken for {names[j]}: {count}" for count, i, j in worst)]
    width = max(len(names[i]) for i in shown)
    columns = [max(len(names[j]), 4) for j in shown]
    head = "  ".join(f"{names[j]:>{column}}" for j, column in zip(shown, columns, strict=True))
    rows = [f"{'true':<{width}}  {head}  <- taken for"]
    for i in shown:
        cells = "  ".join(f"{confusion[i, j]:>{column}}" for j, column in zip(shown, columns, strict=True))
        rows.append(f"{names[i]:<{width}}  {cells}")
    return rows


def _as_json(found: "FolderEvaluation", *, graph: Path, image_dir: Path, split: str) -> Any:
    from dataclasses import asdict

    from retrain.evaluation.report import without_nan

    figures = found.figures
    return without_nan(
        {
            "model": str(graph),
            "image_dir": str(image_dir),
            "split": split,
            "images": len(found.labels),
            "accuracy": figures.accuracy,
            "interval": asdict(figures.interval),
            "cross_entropy": figures.cross_entropy,
            "classes": [{"name": n, **asdict(c)} for n, c in zip(found.names, figures.classes, strict=True)],
            "confusion": figures.confusion.tolist(),
            "misclassified": [asdict(row) for row in found.misclassified],
            "unknown_classes": list(found.unknown),
            "rejected": found.rejected,
        }
    )


def _predictions(found: "FolderEvaluation") -> str:
    """Return what the model said of each image as CSV: path, true and predicted class, score, all probabilities."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "true", "predicted", "score", *found.names])
    for path, row, true in zip(found.paths, found.probabilities, found.labels, strict=True):
        predicted = int(row.argmax())
        scores = [f"{value:.6f}" for value in row]
        writer.writerow([path, found.names[true], found.names[predicted], scores[predicted], *scores])
    return text.getvalue()
