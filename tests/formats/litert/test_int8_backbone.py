"""The 8-bit export of a head that was trained on the bottlenecks of an 8-bit backbone."""

from dataclasses import replace

import numpy as np
import pytest
from backbone_checks import loaded

from retrain import export
from retrain.backbones import catalogue, engines, families, quantized
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import WeightsRequest
from retrain.formats.classifier import ExportSource, TrainedClassifier
from retrain.formats.litert import flatbuffer
from retrain.formats.litert import model as litert_model
from retrain.head import Head, Layer
from retrain.metadata import Metadata

pytestmark = pytest.mark.slow  # the calibration takes seconds


def test_the_file_holds_the_very_backbone_and_gives_what_was_trained(tmp_path):
    backbone = loaded("mobilenet_bundled", tmp_path, height=64, width=64)
    source = families.locate(catalogue.find("mobilenet_bundled"), WeightsRequest(tmp_path))
    path = quantized.int8_model(backbone, source, list, print)
    rng = np.random.default_rng(0)
    head = Head((Layer(rng.normal(size=(backbone.dimension, 3)).astype(np.float32), np.ones(3, np.float32)),))
    classifier = TrainedClassifier(backbone.graph, path, backbone.input, backbone.target, head, "final_result", "head")
    metadata = Metadata(("a", "b", "c"), replace(backbone.input, node="input"), "final_result", test_accuracy=0.5)
    written = tmp_path / "graph_int8.tflite"
    litert_model.write_int8(ExportSource(None, metadata, "0" * 64, list, int8=classifier), written)

    found = litert_model.load(written, litert_model.describe(written))
    run = BackboneRunner(backbone, print, engine=engines.LITERT, precision=engines.INT8).runner()
    pictures = np.stack([export.probe_image(64, 64), *quantized.drawn_images(3, 64, 64)])
    trained = head.probabilities(np.stack([run(picture) for picture in pictures]))
    assert found(pictures) == pytest.approx(trained, abs=1e-6)
    more = flatbuffer.count_operations(written.read_bytes()) - flatbuffer.count_operations(path.read_bytes())
    assert more == {"FULLY_CONNECTED": 1, "SOFTMAX": 1}
    # Pixels go in as they are, and scores come out as floats.
    image, outputs = flatbuffer.io_tensors(written.read_bytes())
    assert (image.dtype, {output.dtype for output in outputs.values()}) == (np.uint8, {np.float32})
    assert found.metadata.labels == ("a", "b", "c")
    assert found.metadata.test_accuracy is None
