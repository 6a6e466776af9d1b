from pathlib import Path

import numpy as np
import pytest

from retrain.errors import ExportError
from retrain.evaluation import comparison, fresh_process
from retrain.evaluation.comparison import FormatResult

EXPECTED = np.array([[0.6, 0.4], [0.51, 0.49], [0.1, 0.9]], np.float32)


def test_images_apart_are_those_that_the_tolerance_does_not_explain():
    scored = np.array([[0.4, 0.6], [0.49, 0.51], [0.1, 0.9]], np.float32)
    assert comparison.find_disagreements(scored, EXPECTED, 0.0).tolist() == [0, 1]
    assert comparison.find_disagreements(scored, EXPECTED, 0.02).tolist() == [0]
    assert comparison.find_disagreements(scored, EXPECTED, 0.2).tolist() == []


def test_what_is_no_number_is_no_answer():
    scored = EXPECTED.copy()
    scored[2] = np.nan
    assert comparison.find_disagreements(scored, EXPECTED, 1.0).tolist() == [2]


def checked(path, scored, labels, tolerance, max_drop=0.05):
    return comparison.compare(
        "x", path, scored, EXPECTED, labels, milliseconds=1.0, tolerance=tolerance, max_drop=max_drop
    )


def test_a_row_counts_bytes_accuracy_and_agreement(tmp_path):
    (tmp_path / "m" / "inside").mkdir(parents=True)
    for name, size in (("a", 10), ("inside/b", 5)):
        (tmp_path / "m" / name).write_bytes(b"x" * size)
    row = checked(tmp_path / "m", EXPECTED[:, ::-1].copy(), np.array([0, 0, 1]), 2e-3)
    assert (row.bytes, row.accuracy, row.agreement, row.apart) == (15, 0.0, 0.0, 3)
    same = checked(tmp_path / "m" / "a", EXPECTED, np.array([0, 0, 1]), None)
    assert (same.bytes, same.accuracy, same.agreement, same.apart) == (10, 1.0, 1.0, 0)
    assert checked(tmp_path / "m", EXPECTED, None, None).accuracy is None


def row(name, accuracy, apart=0):
    return FormatResult(name, Path("f"), 1, 1.0, accuracy, 1.0, apart, "")


def test_problems_are_what_is_lost_and_what_differs():
    graph = row("frozen graph", 0.9)
    rows = [row("a", 0.9), row("b", 0.8), row("c", 0.9, apart=2), row("d", None)]
    assert comparison.problems(graph, rows, max_drop=0.1) == ["c gives 2 image(s) another class than the frozen graph"]
    assert comparison.problems(graph, rows, max_drop=0.05) == [
        "b loses 10.0% accuracy, more than --max_accuracy_drop 0.05",
        "c gives 2 image(s) another class than the frozen graph",
    ]


def test_the_table_has_a_line_for_each_file_under_one_head():
    lines = comparison.table(row("frozen graph", 0.9), [row("onnx", None)])
    assert [line[:12].rstrip() for line in lines] == ["format", "frozen graph", "onnx"]
    assert lines[0].split() == ["format", "file", "bytes", "ms/image", "test", "accuracy", "agreement", "allowed"]
    assert lines[1].split() == ["frozen", "graph", "f", "1", "1.00", "90.0%", "-"]


def test_a_file_that_cannot_be_read_back_is_an_error_in_one_line(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match=r"m\.tflite was written, but cannot be read back: .*is not a LiteRT model"):
        fresh_process.score_file(tmp_path / "m.tflite", [])
