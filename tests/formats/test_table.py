"""Every format of one real training, read by the real clients that it is made for."""

import json
import re

import numpy as np
import pytest
from builders import NAMES, SIZE, graph_model, pixels_of, rows_of
from conftest import command

from retrain.formats import table as format_table
from retrain.formats.table import EXPORTS
from retrain.inference import loading as model_loading
from retrain.inference import prediction


@pytest.mark.slow
def test_a_table_ends_the_run_with_a_row_for_each_file(run):
    rows = rows_of(run[1])
    expected = ["frozen graph", "saved_model", "saved_model, image files", "tflite", "tflite_fp16", "tflite_int8"]
    assert [row[0] for row in rows] == [*expected, "keras", "onnx"]
    for name, path, size, milliseconds, accuracy, _, *allowed in rows:
        file = run[0] / path
        files = [f for f in file.rglob("*") if f.is_file()] if file.is_dir() else [file]
        assert int(size.replace(",", "")) == sum(f.stat().st_size for f in files), name
        assert float(milliseconds) > 0
        assert accuracy == "100.0%"
        assert (allowed == ["5.0% less accuracy"]) == (name in ("tflite_int8", "saved_model, image files"))
    assert all(row[5] == "100.0%" for row in rows[1:])


@pytest.mark.slow
def test_the_report_has_the_table_too(run, graph):
    figures = json.loads(graph.with_suffix(".report.json").read_text())["exports"]
    assert [row["name"] for row in figures] == [row[0] for row in rows_of(run[1])]
    assert "<h2>Formats</h2>" in graph.with_suffix(".report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_every_format_names_each_colour_and_says_what_it_is(graph, pictures, name):
    path = format_table.path_of(graph, name)
    model = model_loading.load(path)
    assert model.metadata.labels == tuple(NAMES)
    assert model.metadata.input.size == (SIZE, SIZE)
    assert model.metadata.architecture == "mobilenet_bundled"
    assert str(model.metadata.split) == "validation 10 % and testing 10 %"
    assert model.metadata.split.contents
    for result in prediction.label(model, pictures.values()):
        assert result.ranked[0].label == result.path.stem


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in EXPORTS.items() if row.tolerance])
def test_float_formats_give_the_probabilities_of_the_frozen_graph(graph, pictures, name):
    batch = np.stack([pixels_of(path) for path in pictures.values()])
    expected = graph_model(graph)(batch)
    found = format_table.format_of(format_table.path_of(graph, name))
    path = format_table.path_of(graph, name)
    assert found.load(path, found.describe(path))(batch) == pytest.approx(expected, abs=EXPORTS[name].tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runtimes"),
    [("tflite", ()), ("tflite_int8", ()), ("onnx", ("onnxruntime",)), ("keras", ("tensorflow", "keras"))],
)
def test_only_the_runtime_that_a_file_needs_is_imported(graph, pictures, tmp_path, name, runtimes):
    code = (
        "import sys; from retrain.cli import label_image\n"
        f"label_image.main(['--graph', {str(format_table.path_of(graph, name))!r}, {str(pictures['cyan'])!r}])\n"
        "print(sorted({'tensorflow', 'keras', 'onnxruntime', 'tf2onnx'} & set(sys.modules)))"
    )
    done = command("python", "-c", code, cwd=tmp_path)
    assert "cyan (score=0." in done.stdout
    assert done.stdout.splitlines()[-1] == str(sorted(runtimes))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_every_format_is_described(graph, tmp_path, name):
    shown = command("label_image", "--describe", "--graph", format_table.path_of(graph, name), cwd=tmp_path).stdout
    assert f"size:        {SIZE} x {SIZE} px" in shown
    assert f"labels:      3: {', '.join(NAMES)}" in shown
    assert re.search(r"^operations:  \d+: ", shown, re.M)
    assert int(re.search(r"^parameters: +([\d,]+)$", shown, re.M)[1].replace(",", "")) > 800_000
    accuracy = "" if name in ("tflite_fp16", "tflite_int8") else ", test accuracy 100.0%"
    assert shown.splitlines()[-1].endswith(f"on mobilenet_bundled, TensorFlow 2.21.0{accuracy}")


def test_an_unknown_format_is_refused_before_anything_else(tmp_path):
    done = command("retrain", "--image_dir", "x", "--export", "tflite,coreml", cwd=tmp_path, code=2)
    assert "--export is tflite, coreml; formats are saved_model, tflite" in done.stderr
