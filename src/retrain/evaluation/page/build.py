"""Makes the page of a report: one file with its pictures, small enough to mail."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from retrain.evaluation.evidence import Evidence
from retrain.evaluation.page import charts, tables
from retrain.evaluation.page.charts import Chart, Quantity, Series
from retrain.evaluation.page.facts import RunFacts
from retrain.evaluation.page.photos import Album, Pictures
from retrain.evaluation.page.templating import render
from retrain.evaluation.report import Report, repeated
from retrain.history import curves
from retrain.storage.folders import Folder

PAGE_BYTES = 5_000_000  # what mail takes


def page_of(report: Report, evidence: Evidence, *, image_dir: Folder, folder: Path, run: RunFacts) -> bytes:
    """Return the report as a page of at most 5 MB, where the text alone is not more.

    Args:
        report: The figures.
        evidence: What is known of single photos, and their pictures.
        image_dir: Where the photos are, to which the page links.
        folder: Where the page goes.
        run: When the run was, and how.
    """

    def make(pictures: Pictures) -> bytes:
        album = Album(evidence, pictures, image_dir, folder)
        return render("report.html", _contents(report, evidence, album) | {"run": run, "pictures": pictures})

    return fitted(evidence.pictures, make)


def fitted(drawn: Mapping[str, bytes], make: Callable[[Pictures], bytes]) -> bytes:
    """Return a page with as many pictures as `PAGE_BYTES` have room for; it is larger only if the text alone is.

    Args:
        drawn: Pictures by their keys.
        make: Returns the page with those pictures that it is given.
    """
    room = PAGE_BYTES
    for _ in range(2):
        pictures = Pictures(drawn, room)
        page = make(pictures)
        if len(page) <= PAGE_BYTES:
            break
        room = max(0, PAGE_BYTES - (len(page) - sum(map(len, pictures.embedded()))) - 1000)  # a sentence says so
    return page


def _contents(report: Report, evidence: Evidence, album: Album) -> dict[str, object]:
    """Return the variables of the template; the pictures that matter most are asked for first."""
    samples, wrong = album.samples(), album.wrong()
    cells = album.cells(report)
    pairs, more_pairs = tables.worst_pairs(report, cells)
    return {
        "report": report,
        "folder": album.folder,
        "is_remote": album.is_remote,
        "title": album.title,
        "interval": f"{report.test_interval}{repeated(report)}",
        "totals": [sum(column) for column in zip(*report.counts, strict=True)],
        "samples": samples,
        "wrong": wrong,
        "cells": cells,
        "right": album.right(),
        "listed": album.listed(report),
        "matrix": tables.matrix(report, cells),
        "pairs": pairs,
        "more_pairs": more_pairs,
        "classes": tables.class_rows(report),
        "charts": [chart for chart in (_curves(report, quantity) for quantity in charts.QUANTITIES) if chart],
        "reliability": charts.reliability(report.calibration),
        "evidence": evidence,
    }


def _curves(report: Report, quantity: Quantity) -> Chart | None:
    """Return the training and the validation of a run as curves, with the step at which fine-tuning began."""
    steps = np.array([row.step for row in report.measured], np.int64)
    series = [
        Series("training", "plain", steps, curves(report.measured, "train")[quantity.name]),
        Series("validation", "strong", steps, curves(report.measured, "validation")[quantity.name]),
    ]
    bounds = [(report.steps, "fine-tuning")] if len(steps) and steps[-1] >= report.steps else []
    return charts.draw(quantity, series, bounds=bounds)
