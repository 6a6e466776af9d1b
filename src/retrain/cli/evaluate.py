"""`evaluate`: prints how good a model is on a folder of photos."""

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from retrain.cli import flags, lean_tensorflow
from retrain.cli.console import DONE, quieten, run
from retrain.errors import csv_cell, printable

if TYPE_CHECKING:
    from retrain.evaluation.folder import FolderEvaluation

_COLUMNS_AT_MOST = 12  # classes in a confusion matrix that can be read on a terminal
_ROWS_AT_MOST = 20


def main(arguments: Sequence[str]) -> int:
    """Print how good a model is on a folder and return the exit code."""
    args = flags.parse(flags.evaluate_parser(), arguments)
    graph = args.model or args.graph
    quieten(verbose=args.verbose)
    from retrain import files, outputs
    from retrain.data.split import Split, SplitRule
    from retrain.evaluation.folder import evaluate, rule_of
    from retrain.inference import loading as model_loading
    from retrain.terminal import Terminal

    files.bound_reading(args.max_file_size)
    overrides = flags.metadata_overrides(args)
    percentages = args.validation_percentage, args.testing_percentage
    SplitRule(*(each or 0 for each in percentages))  # refuses nonsense before the model is read
    if args.predictions:
        written = outputs.Output(args.predictions, "--predictions", outputs.PREDICTIONS)
        outputs.check([written], {"--graph": graph, "--labels": args.labels, "--image_dir": args.image_dir})
    lean_tensorflow.install_for(model_loading.file_to_load(graph, overrides))
    model = model_loading.load(graph, labels=args.labels, overrides=overrides)
    with Terminal() as terminal:
        result = evaluate(
            model,
            args.image_dir,
            split=None if args.split == flags.ALL else Split(args.split),
            rule=rule_of(model.metadata, *percentages),
            views=args.views,
            advance=terminal.progress("Evaluating", "image"),
        )
    for note in result.notes:
        print(printable(f"evaluate: {note}"), file=sys.stderr)
    for path, reason in result.rejected.items():
        print(printable(f"evaluate: {path}: {reason}, left out"), file=sys.stderr)
    if args.predictions:
        files.write_result(args.predictions, _predictions(result).encode())
    if args.json:
        print(json.dumps({"model": str(graph), "image_dir": str(args.image_dir), **_as_json(result, args)}))
    else:
        print("\n".join(printable(line) for line in _lines(result, args)))
    return DONE


command = partial(run, "evaluate", main)


def _lines(result: "FolderEvaluation", args: Namespace) -> list[str]:
    figures = result.figures
    rows = [
        f"Accuracy: {figures.accuracy:g} (N={len(result.labels)}, 95% interval {figures.interval})",
        f"Cross Entropy: {figures.cross_entropy:g}",
    ]
    if args.views > 1:
        rows.append("Each score is the mean of those of an image and of its mirror image.")
    if args.split != flags.ALL:
        rows.append(f"These are the {args.split} images of the folder; --split all takes every image.")
    used = [i for i, scores in enumerate(figures.classes) if scores.count or figures.confusion[:, i].any()]
    names = [result.names[i] for i in used]
    width = max(len(name) for name in [*names, "class"])
    rows += ["", f"{'class':<{width}}  images  precision  recall      F1"]
    for name, scores in zip(names, (figures.classes[i] for i in used), strict=True):
        percentages = (_percent(scores.precision, 9), _percent(scores.recall, 6), _percent(scores.f1, 6))
        rows.append(f"{name:<{width}}  {scores.count:>6}  {'  '.join(percentages)}")
    rows += ["", *_confusion(result, used)]
    wrong = result.misclassified
    if wrong:
        rows += ["", f"Misclassified ({len(wrong)}):"]
        rows += [f"{row.path}  {row.predicted} (score={row.score:.5f}, true label {row.true})" for row in wrong]
    return rows


def _percent(value: float, width: int) -> str:
    return " " * width if value != value else f"{value:>{width}.1%}"


def _confusion(result: "FolderEvaluation", class_ids: Sequence[int]) -> list[str]:
    """Return the confusion matrix, or, of too many classes for a terminal, its largest errors."""
    confusion, names = result.figures.confusion, result.names
    if len(class_ids) > _COLUMNS_AT_MOST:
        pairs = [(int(confusion[i, j]), i, j) for i in class_ids for j in class_ids if i != j and confusion[i, j]]
        worst = sorted(pairs, key=lambda pair: (-pair[0], pair))[:_ROWS_AT_MOST]
        shown = f" ({_ROWS_AT_MOST} of {len(pairs)} pairs)" if len(pairs) > _ROWS_AT_MOST else ""
        return [
            f"Most often confused{shown}:",
            *(f"{names[i]} predicted as {names[j]}: {count}" for count, i, j in worst),
        ]
    width = max(len(names[i]) for i in class_ids)
    columns = [max(len(names[j]), 4) for j in class_ids]
    head = "  ".join(f"{names[j]:>{column}}" for j, column in zip(class_ids, columns, strict=True))
    rows = [f"{'true':<{width}}  {head}  <- predicted"]
    for i in class_ids:
        cells = "  ".join(f"{confusion[i, j]:>{column}}" for j, column in zip(class_ids, columns, strict=True))
        rows.append(f"{names[i]:<{width}}  {cells}")
    return rows


def _as_json(result: "FolderEvaluation", args: Namespace) -> Any:
    from dataclasses import asdict

    from retrain.evaluation.report import without_nan

    figures = result.figures
    return without_nan(
        {
            "split": args.split,
            "views": args.views,
            "images": len(result.labels),
            "accuracy": figures.accuracy,
            "interval": asdict(figures.interval),
            "cross_entropy": figures.cross_entropy,
            "classes": [{"name": n, **asdict(c)} for n, c in zip(result.names, figures.classes, strict=True)],
            "confusion": figures.confusion.tolist(),
            "misclassified": [asdict(row) for row in result.misclassified],
            "unknown_classes": list(result.unknown),
            "rejected": result.rejected,
        }
    )


def _predictions(result: "FolderEvaluation") -> str:
    """Return the predictions as CSV: path, true and predicted class, score, all probabilities."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [csv_cell(name) for name in result.names]
    writer.writerow(["image", "true", "predicted", "score", *names])
    for path, row, true in zip(result.paths, result.probabilities, result.labels, strict=True):
        predicted = int(row.argmax())
        scores = [f"{value:.6f}" for value in row]
        writer.writerow([csv_cell(path), names[true], names[predicted], scores[predicted], *scores])
    return text.getvalue()
