"""Damaged and hostile models end in one line."""

import json
import zipfile

import numpy as np
import pytest
from builders import exported, graph_model, small_keras

from retrain.errors import GraphError
from retrain.graphs import reading
from retrain.graphs.nodes import from_tensorflow
from retrain.inference import loading as model_loading
from retrain.metadata import METADATA_NODE, Metadata
from retrain.preprocessing import InputSpec


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "g.pb")


def changed(graph, change):
    definition = reading.read_graph(graph)
    change({node.name: node for node in definition.node}, definition)
    graph.write_bytes(definition.SerializeToString())
    return graph


@pytest.mark.parametrize(
    "fields",
    [{"labels": [1, 2, 3]}, {"labels": "abc"}, {"height": "128"}, {"mean": [1]}, {"std": 0}, {"input": 7},
     {"output": 1}, {"test_accuracy": "high"}],
)  # fmt: skip
def test_metadata_of_other_types_are_damaged(graph, fields):
    def change(nodes, definition):
        tensor = nodes[METADATA_NODE].attr["value"].tensor
        tensor.string_val[0] = json.dumps({**json.loads(tensor.string_val[0]), **fields}).encode()

    with pytest.raises(GraphError, match=r"g\.pb has damaged metadata \([^\n]+\)\.$"):
        model_loading.load(changed(graph, change))


def test_a_tensor_without_its_data_is_one_line(graph):
    def change(nodes, definition):
        weights = next(n for n in nodes.values() if n.op == "Const" and n.name.endswith("final_weights"))
        weights.attr["value"].tensor.tensor_content = b"abc"

    with pytest.raises(GraphError, match=r"g\.pb [^\n]+\.$"):
        model_loading.load(changed(graph, change))(np.zeros((1, 16, 16, 3), np.uint8))


def test_a_node_that_reads_what_is_not_there_is_one_line(graph):
    def change(nodes, definition):
        nodes["final_result"].input[0] = "nowhere"

    with pytest.raises(GraphError, match=r"g\.pb is damaged or no frozen TensorFlow graph \([^\n]+\)\.$"):
        model_loading.load(changed(graph, change))


def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(tmp_path):
    small_keras(rescaling=True).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.json", b" " * (20 * 2**24))
    with pytest.raises(GraphError, match=r"m\.keras is refused: it unpacks to 335,\d+,\d+ bytes"):
        model_loading.load(tmp_path / "m.keras")


def test_an_endless_loop_is_stopped(graph, monkeypatch):
    import tensorflow as tf

    from retrain.formats import frozen_graph

    def forever(tf_graph):
        output = tf.compat.v1.placeholder(tf.float32, [None, 3], name="final_result")
        function = {
            "cond": tf.function(lambda i: i > 0.0).get_concrete_function(tf.TensorSpec([], tf.float32)),
            "body": tf.function(lambda i: i * 1.0).get_concrete_function(tf.TensorSpec([], tf.float32)),
        }
        looped = tf.raw_ops.StatelessWhile(input=[tf.constant(1.0)], name="endless", **function)
        tf.multiply(output, looped[0], name="after")

    def change(nodes, definition):
        with tf.Graph().as_default() as made:
            forever(made)
        part = from_tensorflow(made.as_graph_def())
        definition.library.CopyFrom(part.library)
        definition.node.extend([node for node in part.node if node.name != "final_result"])

    monkeypatch.setattr(frozen_graph, "_LOOP_LIMIT", 500)
    told = graph_model(graph).metadata
    path = changed(graph, change)
    model = frozen_graph.load(path, Metadata(told.labels, InputSpec("Placeholder", 16, 16, 0.0, 255.0), "after"))
    with pytest.raises(GraphError, match=r"g\.pb does not run"):
        model(np.zeros((1, 16, 16, 3), np.uint8))
