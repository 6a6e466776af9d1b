import os

import numpy as np
import pytest
from builders import NAMES, SIZE, pixels_of
from conftest import command

from retrain.formats import table as format_table


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_onnx_model_passes_the_checker(graph):
    import onnx

    model = onnx.load(format_table.path_of(graph, "onnx"))
    onnx.checker.check_model(model, full_check=True)  # raises what is wrong
    assert {node.domain for node in model.graph.node} == {""}  # no runtime's own operations


@pytest.mark.slow
def test_openvino_reads_the_onnx_model(graph, pictures):
    openvino = pytest.importorskip("openvino", reason="OpenVINO has no wheel for this machine")
    compiled = openvino.Core().compile_model(str(format_table.path_of(graph, "onnx")), "CPU")
    found = compiled(np.stack([pixels_of(path) for path in pictures.values()]))[0]
    assert [NAMES[i] for i in found.argmax(1)] == list(pictures)


def test_without_the_converter_onnx_is_refused_with_what_to_install(tmp_path, colour_images):
    (tmp_path / "tf2onnx.py").write_text("raise ImportError('no such module')")
    done = command(
        "retrain", "--image_dir", colour_images, "--export", "onnx", cwd=tmp_path, code=1,
        env={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.stderr.strip().endswith("(no such module). Install them: pip install --upgrade tf2onnx onnxruntime")
