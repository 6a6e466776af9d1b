import numpy as np
import pytest
from builders import exported

from retrain import files
from retrain.formats import frozen_graph
from retrain.formats import table as format_table
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.head import linear


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "retrained_graph.pb")


@pytest.fixture
def both(graph, mean_colour_backbone, tmp_path):
    """A frozen graph with its LiteRT form beside it."""
    lite = tmp_path / "backbone.tflite"
    lite.write_bytes(conversion.to_float32(mean_colour_backbone, source="Placeholder", target="mean_colour"))
    head = linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    model = litert_model.float32(graph, backbone=lite, head=head, told=frozen_graph.describe(graph))
    files.write_result(format_table.litert_path(graph), model)
    return graph
