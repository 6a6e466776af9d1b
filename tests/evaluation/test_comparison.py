import re
from pathlib import Path

import numpy as np
import pytest
from builders import rows_of
from conftest import colour_folder, command, write_graph
from PIL import Image

from retrain.errors import ExportError
from retrain.evaluation import comparison, fresh_process
from retrain.evaluation.comparison import Comparison, FormatResult
from retrain.evaluation.fresh_process import FileScores

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
    images = Comparison([], labels, max_drop)
    return comparison.compare(
        "x", path, FileScores(scored, 1.0), FileScores(EXPECTED, 1.0), images, tolerance=tolerance
    )


def test_a_row_counts_bytes_accuracy_and_agreement(tmp_path):
    (tmp_path / "m" / "inside").mkdir(parents=True)
    for name, size in (("a", 10), ("inside/b", 5)):
        (tmp_path / "m" / name).write_bytes(b"x" * size)
    row = checked(tmp_path / "m", EXPECTED[:, ::-1].copy(), np.array([0, 0, 1]), 2e-3)
    assert (row.bytes, row.accuracy, row.agreement, row.disagreements) == (15, 0.0, 0.0, 3)
    same = checked(tmp_path / "m" / "a", EXPECTED, np.array([0, 0, 1]), None)
    assert (same.bytes, same.accuracy, same.agreement, same.disagreements) == (10, 1.0, 1.0, 0)
    assert checked(tmp_path / "m", EXPECTED, None, None).accuracy is None


def row(name, accuracy, disagreements=0):
    return FormatResult(name, Path("f"), 1, 1.0, accuracy, 1.0, disagreements, "")


def test_problems_are_what_is_lost_and_what_differs():
    graph = row("frozen graph", 0.9)
    rows = [row("a", 0.9), row("b", 0.8), row("c", 0.9, disagreements=2), row("d", None)]
    assert comparison.find_problems(graph, rows, max_drop=0.1) == [
        "c gives 2 images another class than the frozen graph"
    ]
    assert comparison.find_problems(graph, rows, max_drop=0.05) == [
        "b loses 10.0% accuracy, more than --max_accuracy_drop 0.05",
        "c gives 2 images another class than the frozen graph",
    ]


def test_the_table_has_a_line_for_each_file_under_one_head():
    lines = comparison.table([row("frozen graph", 0.9), row("onnx", None)])
    assert [line[:12].rstrip() for line in lines] == ["format", "frozen graph", "onnx"]
    assert lines[0].split() == ["format", "file", "bytes", "ms/image", "test", "accuracy", "agreement", "allowed"]
    assert lines[1].split() == ["frozen", "graph", "f", "1", "1.00", "90.0%", "-"]


def test_a_file_that_cannot_be_read_back_is_an_error_in_one_line(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match=r"m\.tflite was written, but cannot be read back: .*is not a LiteRT model"):
        fresh_process.score_file(tmp_path / "m.tflite", [])


@pytest.mark.slow
def test_a_format_that_loses_too_much_fails_the_run_and_keeps_the_files(tmp_path, mean_colour_backbone):
    # Two classes whose mean colours lie closer than 8 bits can tell apart, and a float easily.
    rng = np.random.default_rng(0)
    for name, darker in (("a", 0), ("b", 100)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            pixels = 230 + rng.integers(0, 4, (256, 3), np.uint8)
            pixels[:darker] -= 1
            Image.fromarray(pixels.reshape(16, 16, 3)).save(tmp_path / "photos" / name / f"{number}.png")
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", mean_colour_backbone, "--bottleneck_tensor",
        "mean_colour", "--how_many_training_steps", "300", "--learning_rate", "1", "--testing_percentage", "40",
        "--export", "tflite_int8", "--max_accuracy_drop", "0.02", cwd=tmp_path, code=1,
    )  # fmt: skip
    rows = {row[0]: row for row in rows_of(done)}
    assert float(rows["frozen graph"][4].rstrip("%")) > 90
    assert rows["tflite_int8"][6] == "2.0% less accuracy"
    assert re.fullmatch(
        r"retrain: tflite_int8 loses \d+\.\d% accuracy, more than --max_accuracy_drop 0.02\. "
        r"All other results are written, and files are kept\.",
        done.stderr.splitlines()[-1],
    )
    assert (tmp_path / "tf_files" / "retrained_graph_int8.tflite").exists()
    assert (tmp_path / "tf_files" / "retrained_graph.report.html").exists()


@pytest.mark.slow
def test_without_test_images_the_formats_are_compared_on_training_images(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=4)
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", mean_colour_backbone, "--bottleneck_tensor",
        "mean_colour", "--how_many_training_steps", "20", "--testing_percentage", "0", "--export", "tflite,keras",
        cwd=tmp_path,
    )  # fmt: skip
    assert [row[4:6] for row in rows_of(done)] == [["-", "-"], ["-", "100.0%"], ["-", "100.0%"]]


@pytest.mark.slow
def test_a_format_that_cannot_be_written_costs_only_itself(tmp_path):
    backbone = write_graph(
        tmp_path / "lrn.pb", lambda tf, picture: tf.reduce_mean(tf.nn.lrn(picture, 1), [1, 2], name="colour")
    )
    colour_folder(tmp_path / "photos", per_class=15)
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", backbone, "--bottleneck_tensor", "colour",
        "--how_many_training_steps", "40", "--export", "keras,tflite_fp16", cwd=tmp_path, code=1,
    )  # fmt: skip
    assert [row[0] for row in rows_of(done)] == ["frozen graph", "tflite_fp16"]
    assert "Final test accuracy" in done.stdout
    assert (tmp_path / "tf_files" / "retrained_graph.report.html").exists()
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        "retrain: --export keras does not go with this network: Keras has no layer for its operation LRN"
    )
    assert said.endswith("All other results are written, and files are kept.")
