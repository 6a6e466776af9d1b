import pytest

from retrain.errors import GraphError
from retrain.graphs import editing, reading
from retrain.preprocessing import InputSpec


def test_cutting_at_a_node_that_is_not_there_offers_the_nearest(mean_colour_backbone):
    with pytest.raises(GraphError, match="mean_colour"):
        editing.cut(
            reading.read_graph(mean_colour_backbone), InputSpec("Placeholder", height=16, width=16), target="mean_color"
        )
