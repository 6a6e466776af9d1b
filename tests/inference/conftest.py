import pytest
from builders import exported, with_litert


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "retrained_graph.pb")


@pytest.fixture
def both(graph, mean_colour_backbone):
    """A frozen graph with its LiteRT form beside it."""
    return with_litert(graph, mean_colour_backbone)
