"""Makes the page of two runs side by side."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from retrain.evaluation import metrics, paired, runs
from retrain.evaluation.metrics import Interval
from retrain.evaluation.page import charts, photos, words
from retrain.evaluation.page.charts import Chart, Quantity, Series
from retrain.evaluation.page.templating import render
from retrain.evaluation.paired import Flip, PairedComparison
from retrain.evaluation.runs import Run
from retrain.files import read_regular
from retrain.storage import folders

_SHOWN_AT_MOST = 500  # photos that one run alone got right
_FIGURES_AT_MOST = 2**30  # bytes of a report


def comparison_page(pair: tuple[Run, Run], result: PairedComparison, notes: Sequence[str], folder: Path) -> bytes:
    """Return a page of two runs on the photos that both tested.

    Args:
        pair: The runs.
        result: How they did.
        notes: What to know about the comparison.
        folder: Where the page goes, from where it links to photos.
    """
    first, second = pair
    contents = {
        "runs": pair,
        "result": result,
        "verdict": paired.verdict(result, first.name, second.name),
        "notes": notes,
        "accuracies": result.accuracies,
        "intervals": [_interval(result, share) for share in result.accuracies],
        "settings": _settings(pair),
        "charts": [
            drawn for drawn in (_curves(pair, each) for each in (charts.ACCURACY, charts.CROSS_ENTROPY)) if drawn
        ],
        "flips": [
            (first.name, second.name, _linked(first, result.only_first, [f.second for f in result.only_first], folder)),
            (
                second.name,
                first.name,
                _linked(second, result.only_second, [f.first for f in result.only_second], folder),
            ),
        ],
        "shown": _SHOWN_AT_MOST,
    }
    return render("compare.html", contents)


def _interval(result: PairedComparison, share: float) -> Interval:
    return metrics.wilson_interval(share * result.photos, result.photos)


def _linked(run: Run, flips: Sequence[Flip], said: Sequence[str], folder: Path) -> list[tuple[Flip, str, str]]:
    """Return photos with what was said of them and links to their files."""
    root = photos.link(folders.folder(run.record.image_dir), folder)
    return [
        (flip, answer, f"{root}/{quote(os.fsencode(flip.image))}") for flip, answer in zip(flips, said, strict=True)
    ]


def _settings(pair: tuple[Run, Run]) -> list[tuple[str, list[str]]]:
    """Return the settings that differ, each with its values."""
    first, second = (run.record.settings for run in pair)
    names = [name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name)]
    return [
        (name, [words.value(each[name]) if name in each else "default" for each in (first, second)]) for name in names
    ]


def _curves(pair: tuple[Run, Run], quantity: Quantity) -> Chart | None:
    """Return the validation of both runs as curves, None where a report is gone or has none."""
    series = []
    for run, style in zip(pair, ("plain", "strong"), strict=True):
        try:
            rows = json.loads(read_regular(run.folder / runs.FIGURES, _FIGURES_AT_MOST))["measured"]
            steps = np.array([int(row["step"]) for row in rows], np.int64)
            values = np.array([_number(row[f"validation_{quantity.name}"]) for row in rows], np.float64)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        series.append(Series(run.name, style, steps, values))
    return charts.draw(quantity, series, marks_best=False)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
