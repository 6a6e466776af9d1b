import json
from dataclasses import replace

import numpy as np
import pytest
from builders import LABELS, exported, graph_model, mean_classifier
from conftest import write_graph

from retrain import files, metadata
from retrain.errors import ExportError, GraphError, UsageError
from retrain.formats import frozen_graph
from retrain.graphs import editing, reading
from retrain.head import Head, Layer, linear
from retrain.preprocessing import InputSpec


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "retrained_graph.pb")


def colours():
    return np.stack([np.full((16, 16, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))])


def test_a_written_graph_says_what_it_is(graph):
    told = frozen_graph.describe(graph)
    assert told.labels == LABELS
    assert told.input == InputSpec("Placeholder", 16, 16, 0.0, 255.0)
    assert (told.output, told.architecture) == ("final_result", "mean")


def test_a_written_graph_names_each_colour(graph):
    model = graph_model(graph)
    assert model(colours()).argmax(1).tolist() == [0, 1, 2]
    assert model.class_count == 3


def test_pixels_and_bottlenecks_give_the_same_probabilities(graph):
    model = graph_model(graph)
    assert model(colours()) == pytest.approx(model.from_bottlenecks(np.eye(3, dtype=np.float32)), abs=1e-6)


def test_the_nodes_have_their_old_names(graph):
    nodes = {node.name: node.op for node in reading.read_graph(graph).node}
    assert nodes["Placeholder"] == "Placeholder"
    assert nodes["final_result"] == "Softmax"
    assert nodes["input/BottleneckInputPlaceholder"] == "PlaceholderWithDefault"
    assert nodes["final_training_ops/Wx_plus_b/add"] == "Add"
    assert {"final_training_ops/weights/final_weights", "final_training_ops/biases/final_biases"} <= nodes.keys()


def test_the_output_can_have_another_name(mean_colour_backbone, tmp_path):
    path = exported(mean_colour_backbone, tmp_path / "g.pb", output="answer")
    assert graph_model(path)(colours()).shape == (3, 3)
    with pytest.raises(ExportError, match="--final_tensor_name"):
        exported(mean_colour_backbone, tmp_path / "h.pb", output="mean_colour")


@pytest.mark.parametrize("layers", [1, 2])
def test_no_other_node_of_the_graph_may_be_called_like_the_output(mean_colour_backbone, layers):
    weights = [np.eye(3, dtype=np.float32)] * layers
    head = Head(tuple(Layer(each, np.zeros(3, np.float32)) for each in weights))
    described = metadata.Metadata(labels=LABELS)
    joined = reading.parse_graph(frozen_graph.join(mean_classifier(mean_colour_backbone, head), described), name="g")
    backbone = {node.name for node in reading.read_graph(mean_colour_backbone).node}
    ours = {node.name for node in joined.node} - backbone - {"final_result"}
    assert len(ours) >= 6
    for name in ours:
        with pytest.raises(UsageError, match="as another node of the graph is called"):
            frozen_graph.check_output(name.upper(), scope=frozen_graph.HEAD_SCOPE, layers=layers)
    frozen_graph.check_output("final_training_ops/answer", scope=frozen_graph.HEAD_SCOPE, layers=layers)


def test_old_loaders_read_the_graph(graph):
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(graph.read_bytes())
    with tf.Graph().as_default() as opened, tf.compat.v1.Session(graph=opened) as session:
        tf.import_graph_def(graph_def)
        image = opened.get_operation_by_name("import/Placeholder").outputs[0]
        result = opened.get_operation_by_name("import/final_result").outputs[0]
        scores = session.run(result, {image: colours() / 255.0})
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_the_same_head_gives_the_same_bytes(mean_colour_backbone, tmp_path):
    paths = [exported(mean_colour_backbone, tmp_path / f"{i}.pb") for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def two_layers():
    rng = np.random.default_rng(1)
    return Head(tuple(Layer(rng.normal(size=(3, 3)).astype(np.float32), np.ones(3, np.float32)) for _ in range(2)))


def test_a_graph_begins_with_the_bytes_of_its_backbone_and_gives_its_head_back(mean_colour_backbone):
    head = two_layers()
    joined = frozen_graph.join(mean_classifier(mean_colour_backbone, head), metadata.Metadata(labels=LABELS))
    assert joined.startswith(mean_colour_backbone.read_bytes())
    graph_def = reading.parse_graph(joined, name="g")
    found = frozen_graph.read_head(graph_def, frozen_graph.metadata_of(graph_def))
    for ours, theirs in zip(head.layers, found.layers, strict=True):
        assert np.array_equal(ours.weights, theirs.weights)
        assert np.array_equal(ours.biases, theirs.biases)


def test_tensorflow_gives_what_the_head_in_the_graph_gives(mean_colour_backbone, tmp_path):
    path, head = tmp_path / "g.pb", two_layers()
    path.write_bytes(frozen_graph.join(mean_classifier(mean_colour_backbone, head), metadata.Metadata(labels=LABELS)))
    bottlenecks = np.random.default_rng(2).random((5, 3), np.float32)
    assert graph_model(path).from_bottlenecks(bottlenecks) == pytest.approx(head.probabilities(bottlenecks), abs=1e-6)


@pytest.mark.parametrize(
    ("node", "operation"), [("final_result", "Sigmoid"), ("final_training_ops/hidden_1/Relu", "Elu")]
)
def test_another_head_than_ours_is_refused(mean_colour_backbone, node, operation):
    joined = frozen_graph.join(mean_classifier(mean_colour_backbone, two_layers()), metadata.Metadata(labels=LABELS))
    graph_def = reading.parse_graph(joined, name="g")
    next(each for each in graph_def.node if each.name == node).op = operation
    with pytest.raises(GraphError, match="another head than was written"):
        frozen_graph.read_head(graph_def, frozen_graph.metadata_of(graph_def))


def test_a_backbone_may_have_nodes_that_are_called_like_those_of_a_head(mean_colour_backbone, tmp_path):
    inner, logits = exported(mean_colour_backbone, tmp_path / "inner.pb"), "final_training_ops/Wx_plus_b/add"
    inner.write_bytes(editing.extract(reading.read_graph(inner), [logits]).SerializeToString())
    head = linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    classifier = replace(mean_classifier(inner, head), target=logits)
    (tmp_path / "outer.pb").write_bytes(frozen_graph.join(classifier, metadata.Metadata(labels=LABELS)))
    assert graph_model(tmp_path / "outer.pb")(colours()).argmax(1).tolist() == [0, 1, 2]


def test_labels_with_any_name_survive_inside_the_graph(mean_colour_backbone, tmp_path):
    labels = ("two\nlines", "тюльпан", "\udcff")
    path = tmp_path / "g.pb"
    classifier = mean_classifier(mean_colour_backbone, linear(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)))
    files.write_result(path, frozen_graph.join(classifier, metadata.Metadata(labels=labels)))
    assert frozen_graph.describe(path).labels == labels


def test_a_graph_without_metadata_tells_what_its_nodes_tell(tmp_path):
    path = write_graph(
        tmp_path / "old.pb", lambda tf, image: tf.nn.softmax(tf.reduce_mean(image, [1, 2]), name="final_result")
    )
    told = frozen_graph.describe(path)
    assert told.input == InputSpec("Placeholder", 16, 16, 0.0, 255.0)
    assert (told.output, told.labels) == ("final_result", ())


def test_a_node_that_is_not_there_is_named_with_its_flag(graph):
    with pytest.raises(GraphError, match="--input_layer and --output_layer"):
        frozen_graph.load(graph, replace(frozen_graph.describe(graph), output="nowhere"))


def test_the_metadata_is_one_line_of_json(graph):
    import tensorflow as tf

    (node,) = [node for node in reading.read_graph(graph).node if node.name == metadata.METADATA_NODE]
    assert json.loads(tf.make_ndarray(node.attr["value"].tensor).item())["labels"] == list(LABELS)
