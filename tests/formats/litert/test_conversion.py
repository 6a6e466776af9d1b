import numpy as np
import pytest
from builders import NAMES, export_source, graph_model, pixels_of
from conftest import write_graph

from retrain.formats import frozen_graph
from retrain.formats import table as format_table
from retrain.formats.classifier import TrainedClassifier
from retrain.formats.litert import model
from retrain.head import linear
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

pytestmark = pytest.mark.slow  # most need the training that is exported in every format


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


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")  # TensorFlow's own, of every 8-bit model
def test_in_8_bits_a_mean_for_each_channel_is_part_of_the_model(tmp_path):
    spec = InputSpec("Placeholder", 16, 16, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    backbone = write_graph(tmp_path / "b.pb", lambda tf, image: tf.reduce_mean(image, [1, 2], name="mean_colour"))
    head = linear(np.eye(3, dtype=np.float32) * 2, np.zeros(3, np.float32))
    classifier = TrainedClassifier(backbone, None, spec, "mean_colour", head, "scores", frozen_graph.HEAD_SCOPE)
    graph = tmp_path / "g.pb"
    graph.write_bytes(frozen_graph.join(classifier, Metadata(labels=("red", "green", "blue"))))
    photos = np.random.default_rng(0).integers(0, 256, (40, 1, 1, 3)).astype(np.uint8) + np.zeros((16, 16, 1), np.uint8)
    model.write_int8(export_source(graph, list(photos)), tmp_path / "m.tflite")
    told = model.describe(tmp_path / "m.tflite")
    assert (told.input.mean, told.input.std) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    expected = graph_model(graph)(photos)
    found = model.load(tmp_path / "m.tflite", told)(photos)
    assert np.abs(found - expected).max() < 0.05
    assert np.ptp(expected) > 0.9
