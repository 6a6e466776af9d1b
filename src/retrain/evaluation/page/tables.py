"""The tables of a page as values for its templates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.errors import plural
from retrain.evaluation import metrics
from retrain.evaluation.metrics import ClassFigures
from retrain.evaluation.page.photos import Cell
from retrain.evaluation.report import Report

MATRIX_AT_MOST = 40  # classes; beyond, nobody reads it
PAIRS_AT_MOST = 25
ROWS_IN_SIGHT = 40
_HEAT = 9  # shades of a cell


@dataclass(frozen=True)
class ClassRow:
    """A class: its name, its numbers of training, validation and testing photos, and its figures."""

    name: str
    counts: Sequence[int]
    figures: ClassFigures


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the confusion matrix: a count, its shade 0 to 9, a link or "", and its words."""

    count: int
    heat: int
    link: str
    words: str


@dataclass(frozen=True)
class Pair:
    """A class that was taken for another: how many of its photos, and the link to them."""

    true: str
    predicted: str
    count: int
    of: int
    link: str


def class_rows(report: Report) -> list[ClassRow]:
    """Return the classes; of many, those with the smallest recall first."""
    rows = [ClassRow(*row) for row in zip(report.class_names, report.counts, report.class_figures, strict=True)]
    if len(rows) <= ROWS_IN_SIGHT:
        return rows
    return sorted(rows, key=lambda row: (not row.figures.count, row.figures.recall if row.figures.count else 0))


def matrix(report: Report, cells: Mapping[tuple[int, int], Cell]) -> list[tuple[str, list[MatrixCell]]]:
    """Return the rows of the confusion matrix, none without test photos or with too many classes to read."""
    if not report.test_count or len(report.class_names) > MATRIX_AT_MOST:
        return []
    rows = []
    for true, counts in enumerate(report.confusion):
        most = max(1, sum(counts))
        row = []
        for predicted, count in enumerate(counts):
            cell = cells.get((true, predicted))
            heat = math.ceil(_HEAT * count / most)
            words = _words(report.class_names[true], report.class_names[predicted], count)
            row.append(MatrixCell(count, heat, f"#{cell.anchor}" if cell and count else "", words))
        rows.append((report.class_names[true], row))
    return rows


def _words(true: str, predicted: str, count: int) -> str:
    what = f"{true} recognised" if true == predicted else f"{true} taken for {predicted}"
    return f"{what}: {plural(count, 'photo')}"


def worst_pairs(report: Report, cells: Mapping[tuple[int, int], Cell]) -> tuple[list[Pair], int]:
    """Return the pairs of classes that are confused most often, and how many further ones there are."""
    pairs = metrics.confusions(np.array(report.confusion))
    names, shown = report.class_names, []
    for true, predicted, count in pairs[:PAIRS_AT_MOST]:
        cell = cells.get((true, predicted))
        link = f"#{cell.anchor}" if cell else ""
        shown.append(Pair(names[true], names[predicted], count, sum(report.confusion[true]), link))
    return shown, len(pairs) - len(shown)
