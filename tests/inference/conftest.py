import numpy as np
import pytest
from builders import exported, mean_classifier

from retrain import files
from retrain.formats import frozen_graph
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.formats.table import path_of
from retrain.graphs import reading
from retrain.head import linear


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "retrained_graph.pb")


@pytest.fixture
def both(graph, mean_colour_backbone, tmp_path):
    """A frozen graph with its LiteRT form beside it."""
    litert = tmp_path / "backbone.tflite"
    head = linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    classifier = mean_classifier(mean_colour_backbone, head, litert=litert)
    backbone = reading.read_graph(mean_colour_backbone)
    litert.write_bytes(conversion.to_float32(backbone, classifier.input, target=classifier.target))
    model = litert_model.join(classifier, frozen_graph.describe(graph), sha256=files.sha256_of(graph))
    files.write_result(path_of(graph, "tflite"), model)
    return graph
