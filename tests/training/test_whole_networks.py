"""A network of the codelab is fine-tuned as a whole, and what is written holds what was learnt."""

from pathlib import Path

import numpy as np
import pytest
from builders import graph_model
from conftest import colour_folder

from retrain.config import RetrainConfig
from retrain.formats import table as formats
from retrain.graphs import nodes, reading
from retrain.pipeline import layers, retrain

LAYERS = ("Conv2D", "DepthwiseConv2dNative")


def kernels(path):
    """Return the kernels of a graph, in the order of its layers."""
    graph = reading.read_graph(path)
    by_name = {node.name: node for node in graph.node}
    layers = [by_name[name] for name in nodes.topological_order(graph) if by_name[name].op in LAYERS]
    return [nodes.array_of(by_name[layer.input[1]].attr["value"].tensor) for layer in layers]


@pytest.mark.slow
def test_a_whole_network_of_the_codelab_is_fine_tuned_and_exported(codelab_data, tmp_path):
    config = RetrainConfig(
        image_dir=colour_folder(tmp_path / "photos", per_class=12), architecture="mobilenet_0.25_128",
        model_dir=codelab_data / "models", how_many_training_steps=2, fine_tune_from="all", fine_tune_steps=3,
        fine_tune_batch_size=8, fine_tune_learning_rate=1e-4, export=("keras",), output_graph=tmp_path / "g.pb",
        output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s", bottleneck_dir=tmp_path / "b",
        checkpoint_path=tmp_path / "c",
    )  # fmt: skip
    found = retrain(config)
    assert found.settings["fine_tune_steps"] == 3
    (before,) = (tmp_path / "b").glob("*/backbone.pb")
    learnt = kernels(tmp_path / "g.pb")
    assert len(learnt) == 27
    for old, new in zip(kernels(before), learnt, strict=True):
        assert old.shape == new.shape
        assert (old != new).any()
    picture = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    expected = graph_model(tmp_path / "g.pb")(picture)
    for form in ("keras", "tflite"):
        path = formats.path_of(tmp_path / "g.pb", form)
        row = formats.format_of(path)
        assert row.load(path, row.describe(path))(picture) == pytest.approx(expected, abs=1e-4)


def test_the_layers_of_an_archive_are_listed(codelab_data):
    config = RetrainConfig(Path(), architecture="mobilenet_0.25_128", model_dir=codelab_data / "models")
    head, titles, image, first, *_ = layers(config)
    assert head.endswith("or all for the whole network.")
    assert titles.split() == ["from", "top", "layer", "kind", "output", "parameters"]
    assert image.split()[1:3] == ["image", "InputLayer"]
    assert first.split()[1:] == ["MobilenetV1_Conv2d_0_convolution", "Conv2D", "64", "x", "64", "x", "8", "224"]
