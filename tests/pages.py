"""Reports, single photos and pages for the tests of the page."""

import io
import math

import numpy as np
from PIL import Image

from retrain.evaluation import metrics, overfitting
from retrain.evaluation.evidence import Evidence, Neighbour, PhotoEvidence
from retrain.evaluation.page.build import page_of
from retrain.evaluation.page.facts import RunFacts
from retrain.evaluation.report import Report
from retrain.history import Evaluation

NOTHING = Evidence((), (), {}, {}, {}, "")
FACTS = RunFacts("2026-11-26T14:05:00+00:00", 95.0, ["retrain", "my photos"], "224 x 224 px, 1,280 features, 13.4 MB")


def history(train, validation, train_loss, validation_loss, count=100):
    rows = zip(train, validation, train_loss, validation_loss, strict=True)
    return [Evaluation(10 * step, a, c, b, d, count) for step, (a, b, c, d) in enumerate(rows)]


def learning(steps=40, *, end=0.3, rise=0.0):
    """Return a history that learns in ten evaluations; its validation loss falls to `end`, and rises by `rise`."""
    falls = np.exp(-np.arange(steps) / 4)
    climb = rise * np.clip(np.arange(steps) - 12, 0, None) / (steps - 12)
    noise = 0.01 * np.cos(np.arange(steps) * 2.0)
    return history(0.95 - falls / 2, 0.93 - falls / 2 + noise, end - 0.05 + falls, end + falls + climb + noise)


def report_of(names, labels, predicted, paths, *, measured=(), **changes):
    """Return the report of a test with labels and predictions int [n], each with the score 0.6 or above."""
    count = len(names)
    probabilities = np.full((len(labels), count), 0.4 / max(1, count - 1), np.float32)
    probabilities[np.arange(len(labels)), predicted] = 0.6 + 0.3 * (np.arange(len(labels)) % 7) / 7
    confusion = metrics.confusion_matrix(probabilities, np.asarray(labels))
    right = int(confusion.trace())
    fields = {
        "architecture": "efficientnet_lite0",
        "class_names": names,
        "counts": [[8, 1, int(row)] for row in confusion.sum(axis=1)],
        "steps": 500,
        "learning_rate": 0.01,
        "random_seed": 0,
        "settings": {},
        "test_accuracy": right / len(labels) if len(labels) else None,
        "test_cross_entropy": 0.5,
        "test_interval": metrics.wilson_interval(right, len(labels)),
        "test_count": len(labels),
        "test_photos": len(labels),
        "class_figures": metrics.class_figures(confusion),
        "confusion": confusion.tolist(),
        "misclassified": metrics.misclassified(paths, names, probabilities, np.asarray(labels)),
        "rejected": {},
        "notes": [],
        "measured": list(measured),
        "calibration": metrics.calibration(probabilities, np.asarray(labels)),
        "overfitting": overfitting.judge(list(measured)),
        "graph_sha256": "0" * 64,
    }
    return Report(**{**fields, **changes})


def picture(number, size=(128, 96)):
    """Return a small JPEG of a colour of its own."""
    colour = tuple(int(127 + 120 * math.sin(number * factor)) for factor in (1.0, 1.7, 2.3))
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def small(names=("daisy", "rose", "tulip"), **changes):
    """Return a report of twelve test photos, four of them wrong, and the evidence of all."""
    labels = np.repeat(np.arange(3), 4)
    predicted = labels.copy()
    predicted[[0, 1, 5, 11]] = [1, 1, 2, 0]
    paths = [f"{names[label]}/{row} a#b.jpg" for row, label in enumerate(labels)]
    report = report_of(list(names), labels, predicted, paths, **{"measured": learning(), **changes})
    pictures = {path: picture(row) for row, path in enumerate(paths)}
    pictures |= {f"heat {path}": picture(row + 50) for row, path in enumerate(paths)}
    near = [Neighbour(f"{name}/train.jpg", name, 0.9 - 0.1 * number) for number, name in enumerate(names)]
    pictures |= {each.path: picture(90 + number) for number, each in enumerate(near)}

    def shown(row):
        given = names[predicted[row]]
        scores = [(given, 0.8), *((name, 0.1) for name in names if name != given)]
        return PhotoEvidence(paths[row], names[labels[row]], scores, f"heat {paths[row]}", near)

    wrong, right = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)
    cells = {}
    for row in [*wrong, *right]:
        cells.setdefault((int(labels[row]), int(predicted[row])), []).append(paths[row])
    how = "Colours show where the network looked."
    return report, Evidence([shown(r) for r in wrong], [shown(r) for r in right], cells, pictures, {}, how)


def page(tmp_path, report, evidence, run=FACTS):
    """Return the page of a report as bytes, for the folder `tmp_path` with the photos in `photos`."""
    return page_of(report, evidence, image_dir=tmp_path / "photos", folder=tmp_path, run=run)
