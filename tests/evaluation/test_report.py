import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from builders import terminal
from conftest import colour_folder
from pages import FACTS, NOTHING

from retrain.data.dataset import scan
from retrain.data.split import DEFAULT_SPLIT
from retrain.evaluation import folds, metrics, overfitting
from retrain.evaluation import report as reports
from retrain.evaluation.keeping import Results, RunOrigin, make_record, write_report
from retrain.evaluation.metrics import ClassFigures, Interval, Misclassified, wilson_interval
from retrain.evaluation.report import Report, misclassified_lines, report_paths, result_line
from retrain.history import Evaluation


def report(**changes):
    fields = {
        "architecture": "mobilenet_bundled",
        "class_names": ["<b>daisy</b>", "rose"],
        "counts": [[8, 1, 1], [8, 1, 1]],
        "steps": 10,
        "learning_rate": 0.01,
        "random_seed": 0,
        "settings": {"random_crop": 10.0, "hidden_units": (512, 256), "fine_tune_from": "<block>"},
        "test_accuracy": 0.5,
        "test_cross_entropy": 0.7,
        "test_interval": Interval(0.1, 0.9),
        "test_count": 2,
        "test_photos": 2,
        "class_figures": [ClassFigures(1.0, 0.5, 0.66, 2), ClassFigures(math.nan, math.nan, math.nan, 0)],
        "confusion": [[1, 1], [0, 0]],
        "misclassified": [Misclassified("<b>daisy</b>/a b#1.jpg", "<b>daisy</b>", "rose", 0.75)],
        "rejected": {"rose/bad\n.jpg": "empty file"},
        "notes": ["Few images."],
        "measured": [Evaluation(0, 0.5, 0.7, math.nan, math.nan, 0), Evaluation(9, 1.0, 0.1, math.nan, math.nan, 0)],
        "calibration": metrics.calibration(np.array([[0.6, 0.4], [0.25, 0.75]], np.float32), np.array([0, 0])),
        "overfitting": overfitting.judge([]),
    }
    return Report(**{**fields, **changes})


def written(tmp_path, **changes):
    graph = tmp_path / "retrained_graph.pb"
    write_report(Results(report(**changes), FACTS, NOTHING), graph, tmp_path / "photos")
    page, figures = report_paths(graph)
    return page.read_text(), json.loads(figures.read_text())


def test_the_page_holds_the_figures_and_escapes_names(tmp_path):
    page, figures = written(tmp_path)
    assert "50.0%" in page
    assert "&lt;b&gt;daisy&lt;/b&gt;" in page
    assert "<b>daisy</b>" not in page
    assert 'href="photos/%3Cb%3Edaisy%3C/b%3E/a%20b%231.jpg"' in page
    assert "empty file" in page
    assert "random_crop 10, hidden_units 512 256, fine_tune_from &lt;block&gt;" in page
    assert figures["test_accuracy"] == 0.5
    assert figures["class_figures"][1]["recall"] is None


def test_the_page_shows_folds_and_what_they_cannot_say(tmp_path):
    fold, labels = np.arange(20) % 2, np.arange(20) // 2 % 2
    labels[0] = 2  # alone in its class
    scores = np.eye(3, dtype=np.float32)[labels]
    scores[[1, 3]] = [0.3, 0.3, 0.4]
    names = ["<b>daisy</b>", "rose", "<i>"]
    found = folds.summarise(scores, labels, fold, names, last_layer_only=True)
    assert (found.accuracies, found.counts) == ([1.0, 0.8], [10, 10])
    assert (found.mean, found.accuracy, found.photos) == (pytest.approx(0.9), pytest.approx(0.9), 20)
    assert found.standard_deviation == pytest.approx(math.sqrt(0.02))
    page, figures = written(tmp_path, cross_validation=found)
    line = "2-fold cross-validation of the last layer alone, without the fine-tuning: 90.0% +- 14.1"
    assert f"<p>{line} (folds 80.0% to 100.0%), N=20.</p>" in page
    assert "seen one: class &#39;&lt;i&gt;&#39;." in page
    assert '<th scope="row">2</th><td class="n">10</td><td class="n">80.0%</td>' in page
    assert figures["cross_validation"]["accuracies"] == [1.0, 0.8]
    assert figures["cross_validation"]["unseen"] == ["<i>"]
    page, figures = written(tmp_path)
    assert "ross-validation" not in page
    assert figures["cross_validation"] is None


def test_runs_that_start_in_one_second_keep_their_order():
    def started(moment):
        origin = RunOrigin(moment, ["retrain"], Path("photos"), {}, None)
        return datetime.fromisoformat(make_record(report(), origin, seconds=1.0).started)

    assert started(1_700_000_000.125) < started(1_700_000_000.25)


def test_a_page_is_replaced_whole(tmp_path):
    written(tmp_path)
    page, figures = report_paths(tmp_path / "retrained_graph.pb")
    with page.open() as old_page, figures.open() as old_figures:
        written(tmp_path, architecture="other_network")
        assert "other_network" not in old_page.read() + old_figures.read()
    assert "other_network" in page.read_text()


def test_graphs_of_many_names_have_reports_of_their_own():
    names = ["g", "flowers_0.25", "flowers_0.5", "model.v1", "model.v2"]
    paths = {path for name in names for path in report_paths(Path(name))}
    assert len(paths) == 2 * len(names)
    assert report_paths(Path("g.pb")) == report_paths(Path("g"))


def test_a_report_without_test_images_says_so(tmp_path):
    page, figures = written(tmp_path, test_accuracy=None, test_cross_entropy=None, test_count=0, misclassified=[])
    assert "not measured" in page
    assert figures["test_accuracy"] is None


def test_misclassified_images_come_with_the_true_label_and_the_score():
    assert result_line(report()) == "Final test accuracy = 50.0% (N=2), 95% interval 10.0% to 90.0%"
    shown, out, _ = terminal()
    shown.say_all(misclassified_lines(report()))
    lines = out.getvalue().splitlines()
    assert lines[0] == "=== MISCLASSIFIED TEST IMAGES ==="
    assert lines[1].split() == [
        "<b>daisy</b>/a",
        "b#1.jpg",
        "rose",
        "(score=0.75000,",
        "true",
        "label",
        "<b>daisy</b>)",
    ]


def test_a_page_that_shows_only_some_of_the_misclassified_photos_says_so(tmp_path):
    rows = [Misclassified(f"rose/{n}.jpg", "rose", "<b>daisy</b>", 0.75) for n in range(88)]
    page, figures = written(tmp_path, misclassified=rows)
    assert page.count("taken for <b>") == 60
    assert "The first 60 of 88" in page
    assert len(figures["misclassified"]) == 88
    assert "The first" not in written(tmp_path, misclassified=rows[:60])[0]


def test_a_confusion_matrix_that_is_left_out_is_said(tmp_path):
    names, zeros = [f"class {n}" for n in range(61)], [[0] * 61] * 61
    figures = metrics.class_figures(np.array(zeros))
    page, _ = written(
        tmp_path, class_names=names, counts=[[1, 1, 1]] * 61, confusion=zeros, class_figures=figures, misclassified=[]
    )
    assert "The confusion matrix of 61 classes is in the JSON file" in page


def test_repeated_test_photos_are_no_more_evidence(tmp_path):
    """The interval follows from the photos that there are, however often each was sampled."""
    dataset = scan(colour_folder(tmp_path, per_class=4), DEFAULT_SPLIT)
    probabilities = np.tile(np.array([[0.9, 0.1, 0], [0.8, 0.2, 0]], np.float32), (500, 1))
    scores = reports.TestScores(["cyan/0.png", "magenta/1.png"] * 500, probabilities, np.array([0, 1] * 500))
    found = reports.make_report(
        reports.RunSettings("mean", 1, 0.1, 0, {}), dataset, scores, rejected={}, history=[], exports=[]
    )  # fmt: skip
    assert (found.test_accuracy, found.test_count, found.test_photos) == (0.5, 1000, 2)
    assert found.test_interval == wilson_interval(1, 2)
    assert [row.path for row in found.misclassified] == ["magenta/1.png"]
    line = result_line(found)
    assert line.startswith("Final test accuracy = 50.0% (N=1000), 95% interval 9.5% to 90.5%")
    assert line.endswith(", of 2 different photos")
