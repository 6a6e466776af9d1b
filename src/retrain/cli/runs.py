"""`retrain runs` and `retrain compare`: what earlier runs were, and which of two is better."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retrain import files, outputs
from retrain.cli import flags
from retrain.cli.console import DONE, FAILED
from retrain.errors import RetrainError, UsageError, csv_cell, plural, printable
from retrain.evaluation import paired, runs
from retrain.outputs import Output

if TYPE_CHECKING:
    from retrain.evaluation.paired import Flip, PairedComparison
    from retrain.evaluation.runs import Run

_NAMED_AT_MOST = 10  # photos on the terminal


def main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Print a table of the runs; those that cannot be read are named, and make the exit code 1.

    `paths` are defaults, as for `retrain`.
    """
    args = flags.parse(flags.runs_parser(paths), arguments)
    folder = runs.folder_of(args.output_graph)
    entries = list(runs.kept(folder))
    kept = [entry for entry in entries if isinstance(entry, runs.Run)]
    for entry in entries:
        if isinstance(entry, RetrainError):
            print(printable(f"retrain runs: {entry}"), file=sys.stderr)
    if args.json:
        print(json.dumps([{"name": run.name, "folder": str(run.folder), **asdict(run.record)} for run in kept]))
    elif kept:
        head = ("run", "when", "architecture", "photos", "classes", "test accuracy")
        print("\n".join(_columns(_with_folds([head, *map(_row, kept)], kept))))
    else:
        print(printable(f"no runs in {folder} so far: retrain my_photos makes one"))
    return DONE if len(kept) == len(entries) else FAILED


def _row(run: "Run") -> tuple[str, ...]:
    record = run.record
    when = datetime.fromisoformat(record.started).strftime("%Y-%m-%d %H:%M")
    accuracy = "-" if record.test_accuracy is None else f"{record.test_accuracy:.1%} (N={record.test_count})"
    return run.name, when, record.architecture, str(record.photos), str(len(record.classes)), accuracy


def _with_folds(rows: Sequence[tuple[str, ...]], shown: "Sequence[Run]") -> list[tuple[str, ...]]:
    """Return a head and the rows of some runs with a column for cross-validation, if one of them has it."""
    folds = [run.record.cross_validation for run in shown]
    if not any(folds):
        return list(rows)
    column = ["cross-validation", *("-" if not pair else f"{pair[0]:.1%} +- {100 * pair[1]:.1f}" for pair in folds)]
    return [(*row, cell) for row, cell in zip(rows, column, strict=True)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def compare(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Print how two runs did on the photos that both tested, and return the exit code; `paths` as for `main`."""
    args = flags.parse(flags.compare_parser(paths), arguments)
    folder = runs.folder_of(args.output_graph)
    first, second = runs.find(folder, args.first), runs.find(folder, args.second)
    result = paired.compare(runs.predictions(first), runs.predictions(second))
    if not result.photos:
        raise RetrainError(
            f"{first.name} and {second.name} have no test photo in common: their photos are in "
            f"{first.record.image_dir} and {second.record.image_dir}. Compare runs on one folder."
        )
    if args.page:
        _check_page(args.page)
    if args.json:
        print(json.dumps(_as_json(first, second, result)))
    elif args.csv:
        _print_csv(first.name, second.name, result)
    else:
        print("\n".join(printable(line) for line in _lines(first, second, result)))
    if args.page:
        _write_page(first, second, result, args.page)
    return DONE


def _check_page(file: Path) -> None:
    """Refuse, before anything is printed, a page that cannot be written or would cost a user a file.

    Raises:
        UsageError: It is not called like a page.
        ExportError: It cannot be written, or what is there is no page.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--page is {str(file)!r}, which is no name of a page. Give one that ends in .html.")
    outputs.check([Output(file, "--page", outputs.PAGE)], {})


def _write_page(first: "Run", second: "Run", result: "PairedComparison", file: Path) -> None:
    """Write both runs side by side as a page.

    Raises:
        ExportError: It cannot be written.
    """
    from retrain.evaluation.page.comparison import comparison_page

    files.write_result(file, comparison_page((first, second), result, _notes(first, second, result), file.parent))
    print(printable(f"Wrote {file}."))


def _notes(first: "Run", second: "Run", result: "PairedComparison") -> list[str]:
    """Return what to know about a comparison."""
    notes = []
    if first.record.image_dir != second.record.image_dir:
        notes.append(
            f"Their folders differ, {first.record.image_dir} and {second.record.image_dir}: photos of the same name "
            f"are taken for the same."
        )
    if result.relabelled:
        notes.append(f"Left out, because they were in another class: {plural(result.relabelled, 'photo')}.")
    return notes


def _lines(first: "Run", second: "Run", result: "PairedComparison") -> list[str]:
    head = ("run", "architecture", "steps", "accuracy on these photos")
    pairs = zip((first, second), result.accuracies, strict=True)
    rows = [(run.name, run.record.architecture, str(run.record.steps), f"{share:.1%}") for run, share in pairs]
    table = _columns(_with_folds([head, *rows], [first, second]))
    lines = [f"Both runs tested {plural(result.photos, 'photo')}:", "", *table, ""]
    lines += _notes(first, second, result)
    lines += _flips(first.name, second.name, result.only_first, [flip.second for flip in result.only_first])
    lines += _flips(second.name, first.name, result.only_second, [flip.first for flip in result.only_second])
    return [*lines, paired.verdict(result, first.name, second.name)]


def _flips(right: str, wrong: str, flips: "Sequence[Flip]", answers: Sequence[str]) -> list[str]:
    """Return lines about the photos that one run alone got right, with the answers of the other."""
    if not flips:
        return []
    named = list(zip(flips, answers, strict=True))[:_NAMED_AT_MOST]
    lines = [f"{right} right, {wrong} wrong: {plural(len(flips), 'photo')}"]
    lines += [f"  {flip.image}  ({wrong} said {answer}, true label {flip.true})" for flip, answer in named]
    more = len(flips) - len(named)
    return [*lines, *([f"  and {more} more: --csv and --json list all"] if more else []), ""]


def _as_json(first: "Run", second: "Run", result: "PairedComparison") -> dict[str, object]:
    return {
        "runs": [first.name, second.name],
        "photos": result.photos,
        "accuracy": list(result.accuracies),
        "only_first_right": [asdict(flip) for flip in result.only_first],
        "only_second_right": [asdict(flip) for flip in result.only_second],
        "mcnemar_p": result.p_value,
        "relabelled": result.relabelled,
    }


def _print_csv(first: str, second: str, result: "PairedComparison") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "true", "first", "second", "right"])
    for name, flips in ((first, result.only_first), (second, result.only_second)):
        for flip in flips:
            # Its texts come from cells of a CSV file already.
            writer.writerow([flip.image, flip.true, flip.first, flip.second, csv_cell(name)])
