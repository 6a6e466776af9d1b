import os

import pytest
from builders import old_graph
from conftest import photo, write_graph

from retrain.errors import GraphError, RetrainError
from retrain.formats import frozen_graph
from retrain.formats.litert import model as litert_model
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec


def test_the_users_own_values_go_first_zero_included(graph, tmp_path):
    grey = photo(tmp_path / "x.png", (100, 90, 80))
    plain = model_loading.load(graph)
    shifted = model_loading.load(graph, overrides=Metadata(input=InputSpec(mean=0.0, std=1.0)))
    assert shifted.metadata.input.std == 1.0
    assert (
        next(iter(prediction.label(shifted, [grey]))).ranked[0].score
        > next(iter(prediction.label(plain, [grey]))).ranked[0].score
    )


def test_the_litert_form_of_another_training_is_not_taken(both):
    both.write_bytes(both.read_bytes() + b"\x22\x00")  # an empty field more: the same graph, other bytes
    assert isinstance(model_loading.load(both), frozen_graph.GraphModel)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\0\0\0\0TFL3" + b"\0" * 40])
def test_a_damaged_litert_form_costs_nothing(both, content):
    both.with_suffix(".tflite").write_bytes(content)
    assert isinstance(model_loading.load(both), frozen_graph.GraphModel)


def test_a_litert_form_with_wild_offsets_costs_nothing(both):
    lite = both.with_suffix(".tflite")
    whole = lite.read_bytes()
    taken = []
    for position in range(8, 400, 4):
        lite.write_bytes(whole[:position] + b"\xff\xff\xff\x7f" + whole[position + 4 :])
        taken.append(litert_model.belongs_to(lite, both))
    assert taken.count(False) > 10
    lite.write_bytes(whole)
    assert litert_model.belongs_to(lite, both)


def test_a_litert_model_can_be_named_itself(both, tmp_path):
    both.rename(tmp_path / "away.pb")
    model = model_loading.load(both.with_suffix(".tflite"))
    assert model.metadata.labels == ("red", "green", "blue")
    (tmp_path / "bad.tflite").write_bytes(b"rubbish")
    for name in ("bad.tflite", "gone.tflite"):
        with pytest.raises(GraphError, match=name):
            model_loading.load(tmp_path / name)


def test_an_old_graph_finds_the_labels_beside_it(tmp_path):
    graph = old_graph(tmp_path / "retrained_graph_v2.pb")
    (tmp_path / "retrained_labels_v2.txt").write_text("a\nb\nc\n")
    assert model_loading.load(graph).metadata.labels == ("a", "b", "c")


def test_a_labels_file_of_the_wrong_length_is_said_with_both_numbers(tmp_path):
    graph = old_graph(tmp_path / "g.pb")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(GraphError, match="3 classes, but there are 2 labels"):
        model_loading.load(graph, labels=tmp_path / "labels.txt")


def test_what_a_graph_does_not_tell_is_asked_for_by_flag(tmp_path):
    def build(tf, image):
        other = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], name="second")
        tf.nn.softmax(tf.reduce_mean(image, [1, 2]) + tf.reduce_mean(other, [1, 2]), name="final_result")

    graph = write_graph(tmp_path / "two.pb", build)
    with pytest.raises(
        GraphError, match="--input_layer, --input_height, --input_width, --input_mean, --input_std, --labels"
    ):
        model_loading.load(graph)


@pytest.mark.parametrize("name", ["mobilenet_0.25_128", "mobilenet_0.25_224"])
def test_graphs_that_others_exported_years_ago_are_read(codelab_data, name):
    legacy = codelab_data / "models" / "legacy"
    model = model_loading.load(legacy / f"retrained_graph_{name}.pb", labels=legacy / f"retrained_labels_{name}.txt")
    size = int(name.rsplit("_", 1)[1])
    assert (model.metadata.input.height, model.metadata.input.mean, model.metadata.input.node) == (size, 127.5, "input")
    picture = next((codelab_data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))
    (result,) = prediction.label(model, [picture])
    assert result.error is None
    assert sum(ranked.score for ranked in result.ranked) == pytest.approx(1, abs=1e-3)


def test_a_pipe_is_never_opened_as_labels(graph, tmp_path):
    os.mkfifo(tmp_path / "labels.txt")
    (tmp_path / "large.txt").touch()
    os.truncate(tmp_path / "large.txt", 2**40)
    for name in ("labels.txt", "large.txt"):
        with pytest.raises(GraphError, match=r"cannot read the labels file .*: .*\. Name the right one with --labels"):
            model_loading.load(graph, labels=tmp_path / name)


@pytest.mark.parametrize("name", ["saved_model.pb", "retrain.json", "variables/variables.index", "fingerprint.pb"])
def test_a_pipe_in_the_folder_of_a_saved_model_is_never_opened(tmp_path, name):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(RetrainError, match=f"cannot read .*{name}: not a regular file"):
        model_loading.load(tmp_path)


def test_a_pipe_beside_a_graph_is_never_opened(both):
    both.with_suffix(".tflite").unlink()
    os.mkfifo(both.with_suffix(".tflite"))
    assert model_loading.file_to_load(both) == both


def test_labels_of_a_model_that_is_silent_on_its_classes_are_counted_at_the_first_answer(tmp_path):
    def build(tf, image):
        shape = tf.compat.v1.placeholder_with_default(tf.constant([-1, 3]), [None], name="shape")
        tf.reshape(tf.nn.softmax(tf.reduce_mean(image, [1, 2])), shape, name="final_result")

    graph, picture = write_graph(tmp_path / "g.pb", build), photo(tmp_path / "x.png", (1, 2, 3))
    overrides = Metadata(input=InputSpec("Placeholder", 16, 16, 0.0, 255.0), output="final_result")
    for names, right in (("a\nb\n", False), ("a\nb\nc\n", True), ("a\nb\nc\nd\n", False)):
        (tmp_path / "labels.txt").write_text(names)
        model = model_loading.load(graph, labels=tmp_path / "labels.txt", overrides=overrides)
        assert model.class_count is None
        if right:
            assert len(next(prediction.label(model, [picture])).ranked) == 3
        else:
            with pytest.raises(GraphError, match="has 3 classes, but there are [24] labels"):
                next(prediction.label(model, [picture]))
