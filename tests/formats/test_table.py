"""Every format of one real training, read by the real clients that it is made for."""

import base64
import http.client
import http.server
import json
import re
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from conftest import COLOURS, colour_folder, command, metadata_schema, photo, write_graph
from PIL import Image

from retrain.data import decoding
from retrain.errors import ExportError
from retrain.formats import frozen_graph
from retrain.formats import keras as keras_format
from retrain.formats import table as format_table
from retrain.formats.litert import flatbuffer
from retrain.formats.litert import metadata as litert_metadata
from retrain.formats.table import FORMATS
from retrain.graphs import reading
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata

NAMES = sorted(COLOURS)
SIZE = 64


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training with the bundled network, exported in every format, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    colour_folder(folder / "photos", per_class=30)
    done = command(
        "retrain", "--image_dir", "photos", "--how_many_training_steps", "60", "--image_size", str(SIZE),
        "--export", ",".join(FORMATS), cwd=folder,
    )  # fmt: skip
    return folder, done


@pytest.fixture(scope="module")
def graph(run):
    return run[0] / "tf_files" / "retrained_graph.pb"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return {name: photo(folder / f"{name}.jpg", colour, (90, 70), seed=9) for name, colour in COLOURS.items()}


def pixels_of(path):
    return decoding.decode(path.read_bytes(), height=SIZE, width=SIZE)


def rows_of(done):
    lines = done.stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("format "))
    return [re.split(r"\s{2,}", line) for line in lines[head + 1 :]]


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


def test_the_report_has_the_table_too(run, graph):
    figures = json.loads(graph.with_suffix(".report.json").read_text())["exports"]
    assert [row["name"] for row in figures] == [row[0] for row in rows_of(run[1])]
    assert "<h2>Formats</h2>" in graph.with_suffix(".report.html").read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_each_colour_and_says_what_it_is(graph, pictures, name):
    path = format_table.path_of(graph, name)
    model = model_loading.load(path)
    assert model.metadata.labels == tuple(NAMES)
    assert (model.metadata.height, model.metadata.width) == (SIZE, SIZE)
    assert model.metadata.architecture == "mobilenet_bundled"
    for result in prediction.label(model, pictures.values()):
        assert result.ranked[0].label == result.path.stem


@pytest.mark.parametrize("name", [name for name, row in FORMATS.items() if row.tolerance])
def test_float_formats_give_the_probabilities_of_the_frozen_graph(graph, pictures, name):
    batch = np.stack([pixels_of(path) for path in pictures.values()])
    expected = frozen_graph.GraphModel(graph, frozen_graph.describe(graph))(batch)
    found = format_table.runtime(format_table.path_of(graph, name))
    path = format_table.path_of(graph, name)
    assert found.load(path, found.describe(path))(batch) == pytest.approx(expected, abs=FORMATS[name].tolerance)


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


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_described(graph, tmp_path, name):
    shown = command("label_image", "--describe", "--graph", format_table.path_of(graph, name), cwd=tmp_path).stdout
    assert f"size:        {SIZE} x {SIZE} px" in shown
    assert f"labels:      3: {', '.join(NAMES)}" in shown
    assert re.search(r"^operations:  \d+: ", shown, re.M)
    assert int(re.search(r"^parameters: +([\d,]+)$", shown, re.M)[1].replace(",", "")) > 800_000
    accuracy = "" if name in ("tflite_fp16", "tflite_int8") else ", test accuracy 100.0%"
    assert shown.splitlines()[-1].endswith(f"on mobilenet_bundled, TensorFlow 2.21.0{accuracy}")


# LiteRT: the standard metadata, by the schema's own code and by MediaPipe.


def standard_metadata(path):
    from ai_edge_litert import schema_py_generated as tflite

    model = tflite.ModelT.InitFromPackedBuf(path.read_bytes())
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    return metadata_schema().ModelMetadataT.InitFromPackedBuf(bytes(bytearray(model.buffers[entry.buffer].data)))


@pytest.mark.parametrize("name", ["tflite", "tflite_fp16", "tflite_int8"])
def test_the_standard_metadata_are_those_of_the_schema(graph, name):
    path = format_table.path_of(graph, name)
    told, generated = standard_metadata(path), metadata_schema()
    assert told.minParserVersion == b"1.0.0"
    (subgraph,) = told.subgraphMetadata
    (taken,), (given,) = subgraph.inputTensorMetadata, subgraph.outputTensorMetadata
    assert taken.content.contentPropertiesType == generated.ContentProperties.ImageProperties
    assert taken.content.contentProperties.colorSpace == generated.ColorSpaceType.RGB
    (unit,) = taken.processUnits
    assert unit.optionsType == generated.ProcessUnitOptions.NormalizationOptions
    assert (list(unit.options.mean), list(unit.options.std)) == ([127.5], [127.5])
    whole = name == "tflite_int8"
    assert (list(taken.stats.min), list(taken.stats.max)) == (([0], [255]) if whole else ([-1], [1]))
    assert (list(given.stats.min), list(given.stats.max)) == (([0], [255]) if whole else ([0], [1]))
    (file,) = given.associatedFiles
    assert file.type == generated.AssociatedFileType.TENSOR_AXIS_LABELS
    with zipfile.ZipFile(path) as archive:
        assert archive.read(file.name.decode()).decode().splitlines() == NAMES


@pytest.mark.parametrize("name", ["tflite", "tflite_fp16", "tflite_int8"])
def test_mediapipe_names_each_colour_by_the_file_alone(graph, pictures, tmp_path, name):
    code = (
        "import sys, mediapipe\n"
        "from mediapipe.tasks.python import BaseOptions, vision\n"
        "base = BaseOptions(model_asset_path=sys.argv[1])\n"
        "options = vision.ImageClassifierOptions(base_options=base, max_results=1)\n"
        "with vision.ImageClassifier.create_from_options(options) as classifier:\n"
        "    for path in sys.argv[2:]:\n"
        "        found = classifier.classify(mediapipe.Image.create_from_file(path))\n"
        "        print(found.classifications[0].categories[0].category_name)\n"
    )
    words = [sys.executable, "-c", code, format_table.path_of(graph, name), *pictures.values()]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=tmp_path)
    missing = re.search(r"^(ModuleNotFound|Import|OS)Error: (.*)$", done.stderr, re.M)  # libEGL, say
    if done.returncode and missing:
        pytest.skip(f"MediaPipe does not load on this machine: {missing[2]}")
    assert done.stdout.split() == list(pictures), done.stderr


def test_in_8_bits_pixels_and_scores_are_whole_numbers(graph, pictures):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(format_table.path_of(graph, "tflite_int8")))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (taken["dtype"], given["dtype"]) == (np.uint8, np.uint8)
    # The network takes (pixel - 127.5) / 127.5: what is quantised of it is the pixel itself, to half a level.
    assert taken["quantization"] == (pytest.approx(1 / 127.5), pytest.approx(127.5, abs=0.5))
    assert given["quantization"] == (1 / 256, 0)
    assert {detail["dtype"] for detail in interpreter.get_tensor_details()} <= {np.int8, np.uint8, np.int32, np.int64}
    for name, path in pictures.items():
        interpreter.set_tensor(taken["index"], pixels_of(path)[None])
        interpreter.invoke()
        assert interpreter.get_tensor(given["index"])[0].argmax() == NAMES.index(name)


def test_half_precision_takes_half_the_bytes(graph):
    sizes = {
        name: format_table.path_of(graph, name).stat().st_size for name in ("tflite", "tflite_fp16", "tflite_int8")
    }
    assert sizes["tflite_fp16"] < 0.55 * sizes["tflite"]
    assert sizes["tflite_int8"] < 0.35 * sizes["tflite"]


# ONNX


def test_onnx_runtime_takes_any_number_of_images(graph, pictures):
    import onnxruntime

    session = onnxruntime.InferenceSession(format_table.path_of(graph, "onnx"), providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("image", "tensor(uint8)", ["batch", SIZE, SIZE, 3])
    assert (given.name, given.shape) == ("probabilities", ["batch", 3])
    assert session.get_modelmeta().custom_metadata_map["labels"].split("\n") == NAMES
    for count in (1, 2, 3):
        batch = np.stack([pixels_of(path) for path in pictures.values()][:count])
        (found,) = session.run(None, {"image": batch})
        assert [NAMES[i] for i in found.argmax(1)] == list(pictures)[:count]


def test_the_onnx_model_passes_the_checker(graph):
    import onnx

    onnx.checker.check_model(onnx.load(format_table.path_of(graph, "onnx")), full_check=True)


def test_openvino_reads_the_onnx_model(graph, pictures):
    openvino = pytest.importorskip("openvino", reason="OpenVINO has no wheel for this machine")
    compiled = openvino.Core().compile_model(str(format_table.path_of(graph, "onnx")), "CPU")
    found = compiled(np.stack([pixels_of(path) for path in pictures.values()]))[0]
    assert [NAMES[i] for i in found.argmax(1)] == list(pictures)


# Keras


def test_keras_loads_its_file_in_safe_mode_and_trains_on(graph, pictures):
    import keras

    model = keras.saving.load_model(format_table.path_of(graph, "keras"), safe_mode=True)
    batch = np.stack([pixels_of(path) for path in pictures.values()])
    assert [NAMES[i] for i in model.predict(batch, verbose=0).argmax(1)] == list(pictures)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    labels = np.array([NAMES.index(name) for name in pictures])
    before = model.get_weights()
    model.fit(batch, labels, verbose=0)
    assert any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))


# SavedModel: saved_model_cli, and TensorFlow Serving's REST requests.


def test_saved_model_cli_shows_and_runs_the_signatures(graph, pictures, tmp_path):
    folder = format_table.path_of(graph, "saved_model")
    shown = command("saved_model_cli", "show", "--dir", folder, "--all", cwd=tmp_path).stdout
    assert "signature_def['serving_default']" in shown
    assert "signature_def['pixels']" in shown
    np.save(tmp_path / "pixels.npy", np.stack([pixels_of(path) for path in pictures.values()]).astype(np.float32))
    np.save(tmp_path / "files.npy", np.array([path.read_bytes() for path in pictures.values()]))
    for signature, given in (("serving_default", "image_bytes=files.npy"), ("pixels", "pixels=pixels.npy")):
        command(
            "saved_model_cli", "run", "--dir", folder, "--tag_set", "serve", "--signature_def", signature,
            "--inputs", given, "--outdir", signature, cwd=tmp_path,
        )  # fmt: skip
        labels = np.load(tmp_path / signature / "labels.npy", allow_pickle=True)
        assert [row[0].decode() for row in labels] == list(pictures)


class Serving(http.server.BaseHTTPRequestHandler):
    """Answers requests in the row format of TensorFlow Serving's REST interface by a signature.

    https://www.tensorflow.org/tfx/serving/api_rest#predict_api
    """

    signature = None

    def do_POST(self):
        import tensorflow as tf

        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ((argument, _),) = self.signature.structured_input_signature[1].items()
        values = [each.get(argument, each) for each in asked["instances"]]
        files = tf.constant([base64.b64decode(value["b64"]) for value in values])
        found = {name: result.numpy() for name, result in self.signature(**{argument: files}).items()}
        rows = [
            {
                name: [v.decode() if isinstance(v, bytes) else float(v) for v in values[i]]
                for name, values in found.items()
            }
            for i in range(len(files))
        ]
        body = json.dumps({"predictions": rows}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_rest_request_of_base64_images_is_answered(graph, pictures, wrapped):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(format_table.path_of(graph, "saved_model")))
    handler = type("Handler", (Serving,), {"signature": loaded.signatures["serving_default"]})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        files = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in pictures.values()]
        instances = [{"image_bytes": file} if wrapped else file for file in files]
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("POST", "/v1/models/flowers:predict", json.dumps({"instances": instances}))
        predictions = json.load(connection.getresponse())["predictions"]
        connection.close()
    finally:
        server.shutdown()
        server.server_close()
    assert [row["labels"][0] for row in predictions] == list(pictures)
    for row in predictions:
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert row["probabilities"] == pytest.approx([row["scores"][row["labels"].index(name)] for name in NAMES])


# What can go wrong.


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


def test_an_unknown_format_is_refused_before_anything_else(tmp_path):
    done = command("retrain", "--image_dir", "x", "--export", "tflite,coreml", cwd=tmp_path, code=2)
    assert "--export is tflite, coreml; formats are saved_model, tflite" in done.stderr


def test_a_folder_of_someone_else_is_not_replaced(tmp_path, colour_images):
    taken = tmp_path / "tf_files" / "retrained_graph_saved_model"
    taken.mkdir(parents=True)
    (taken / "thesis.txt").write_text("years of work")
    done = command("retrain", "--image_dir", colour_images, "--export", "saved_model", cwd=tmp_path, code=1)
    assert "retrained_graph_saved_model holds other files already" in done.stderr
    assert (taken / "thesis.txt").read_text() == "years of work"


def test_without_the_converter_onnx_is_refused_with_what_to_install(tmp_path, colour_images):
    (tmp_path / "tf2onnx.py").write_text("raise ImportError('no such module')")
    done = command(
        "retrain", "--image_dir", colour_images, "--export", "onnx", cwd=tmp_path, code=1,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stderr.strip().endswith("(no such module). Install them: pip install --upgrade tf2onnx onnxruntime")


def test_without_test_images_the_formats_are_compared_on_training_images(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=4)
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", mean_colour_backbone, "--bottleneck_tensor",
        "mean_colour", "--how_many_training_steps", "20", "--testing_percentage", "0", "--export", "tflite,keras",
        cwd=tmp_path,
    )  # fmt: skip
    assert [row[4:6] for row in rows_of(done)] == [["-", "-"], ["-", "100.0%"], ["-", "100.0%"]]


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
    assert said.startswith("retrain: --export keras has no layer for the operation LRN")
    assert said.endswith("All other results are written, and files are kept.")


def test_a_network_that_keras_has_no_layers_for_is_one_clear_error(tmp_path):
    path = write_graph(
        tmp_path / "g.pb",
        lambda tf, picture: tf.nn.softmax(tf.reduce_mean(tf.nn.lrn(picture), [1, 2]), name="final_result"),
    )
    told = Metadata(("a", "b", "c"), "Placeholder", "final_result", height=16, width=16, mean=0.0, std=1.0)
    with pytest.raises(ExportError, match="no layer for the operation LRN"):
        keras_format.to_keras(reading.read_graph(path), told)


def test_damaged_metadata_are_an_error_and_no_crash(graph):
    model = format_table.path_of(graph, "tflite").read_bytes()
    notes = flatbuffer.read_metadata(format_table.path_of(graph, "tflite"))[litert_metadata.NOTE]
    assert litert_metadata.unpack(notes, model).labels == tuple(NAMES)
    for position in range(0, len(notes), 4):
        damaged = notes[:position] + b"\xff\xff\xff\x7f" + notes[position + 4 :]
        try:
            told = litert_metadata.unpack(damaged, model)
        except ValueError:
            continue
        assert isinstance(told, litert_metadata.ClassifierMetadata)
