import numpy as np
import pytest
from builders import NAMES, pixels_of

from retrain.formats import table as format_table

pytestmark = pytest.mark.slow  # all need the training that is exported in every format


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
