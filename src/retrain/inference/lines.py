"""Predictions as lines of CSV or JSON, as `label_image` prints them and writes them into parts."""

import csv
import io
import json

from retrain.errors import csv_cell
from retrain.inference.prediction import Prediction

CSV, JSON = "csv", "json"
ENDINGS = {CSV: "csv", JSON: "jsonl"}  # of files with such lines
_COLUMNS = ("image", "rank", "label", "score", "error")
_NO_CLASS = b",,,,"  # in the rows without a class: those with an error, and those of unsure scores
_JSON_ERROR = b'", "error": "'  # quotes within texts have a backslash in front


def heading(form: str) -> str:
    """Return what goes above all lines of a form, `CSV` or `JSON`."""
    return ",".join(_COLUMNS) + "\n" if form == CSV else ""


def lines_of(prediction: Prediction, form: str) -> str:
    """Return one image's lines, each with its line break: of CSV one for each class, of JSON one in all."""
    return _rows(prediction) if form == CSV else _object(prediction)


def count_errors(text: bytes, form: str) -> int:
    """Return how many of the images in some lines, which `lines_of` made, could not be read."""
    if form == JSON:
        return text.count(_JSON_ERROR)
    rows = csv.reader(row.decode() for row in text.split(b"\n") if _NO_CLASS in row)
    return sum(len(row) == len(_COLUMNS) and not row[1] and bool(row[-1]) for row in rows)


def _object(prediction: Prediction) -> str:
    ranked = [{"label": r.label, "score": round(r.score, 6)} for r in prediction.ranked]
    outcome = {"error": prediction.error} if prediction.error else {"labels": ranked}
    return json.dumps({"image": str(prediction.path), **outcome}) + "\n"


def _rows(prediction: Prediction) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    path = csv_cell(str(prediction.path))
    for rank, ranked in enumerate(prediction.ranked, 1):
        writer.writerow((path, rank, csv_cell(ranked.label), f"{ranked.score:.6f}", ""))
    if not prediction.ranked:
        writer.writerow((path, "", "", "", csv_cell(prediction.error or "")))
    return text.getvalue()
