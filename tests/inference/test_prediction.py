import json

import numpy as np
import pytest
from builders import exported
from conftest import command, photo, write_graph

from retrain import files
from retrain.data import image_files
from retrain.errors import GraphError
from retrain.formats import frozen_graph
from retrain.formats import table as format_table
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.head import linear
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata


def test_top_k_is_sorted_and_stable():
    assert prediction.top_k(np.array([0.1, 0.4, 0.1, 0.4]), 3) == [1, 3, 0]
    assert prediction.top_k(np.array([0.5, 0.5]), 5) == [0, 1]


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "retrained_graph.pb")


def test_each_photo_gets_its_colour(graph, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", colour) for i, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255)))]
    results = list(prediction.label(model_loading.load(graph), paths))
    assert [r.ranked[0].label for r in results] == ["red", "green", "blue"]
    assert all(sum(ranked.score for ranked in r.ranked) == pytest.approx(1, abs=1e-5) for r in results)


def test_an_unreadable_image_costs_only_itself(graph, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    good = photo(tmp_path / "good.png", (255, 0, 0))
    results = list(prediction.label(model_loading.load(graph), [tmp_path / "bad.jpg", tmp_path / "gone.jpg", good]))
    assert "not a JPEG" in results[0].error
    assert "No such file" in results[1].error
    assert results[2].ranked[0].label == "red"


def test_a_folder_stands_for_its_images_at_any_depth(tmp_path):
    photo(tmp_path / "b" / "2.png", (1, 2, 3))
    photo(tmp_path / "1.PNG", (1, 2, 3))
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in image_files.expand_paths([str(tmp_path)])] == ["1.PNG", "2.png"]


def test_the_users_own_values_go_first_zero_included(graph, tmp_path):
    grey = photo(tmp_path / "x.png", (100, 90, 80))
    plain = model_loading.load(graph)
    shifted = model_loading.load(graph, own=Metadata(mean=0.0, std=1.0))
    assert shifted.metadata.std == 1.0
    assert (
        next(iter(prediction.label(shifted, [grey]))).ranked[0].score
        > next(iter(prediction.label(plain, [grey]))).ranked[0].score
    )


@pytest.fixture
def both(graph, mean_colour_backbone, tmp_path):
    """A frozen graph with its LiteRT form beside it."""
    lite = tmp_path / "backbone.tflite"
    lite.write_bytes(conversion.to_float32(mean_colour_backbone, source="Placeholder", target="mean_colour"))
    head = linear(np.eye(3, dtype=np.float32) * 9, np.zeros(3, np.float32))
    model = litert_model.float32(graph, backbone=lite, head=head, told=frozen_graph.describe(graph))
    files.write_result(format_table.litert_path(graph), model)
    return graph


def test_the_litert_form_gives_the_same_answers(both, tmp_path):
    pictures = [photo(tmp_path / f"{i}.png", colour, seed=i) for i, colour in enumerate(((250, 3, 9), (9, 80, 30)))]
    lite, frozen = model_loading.load(both), frozen_graph.GraphModel(both, frozen_graph.describe(both))
    assert isinstance(lite, litert_model.LiteRTModel)
    for fast, slow in zip(prediction.label(lite, pictures), prediction.label(frozen, pictures), strict=True):
        assert [r.label for r in fast.ranked] == [r.label for r in slow.ranked]
        assert [r.score for r in fast.ranked] == pytest.approx([r.score for r in slow.ranked], abs=1e-5)


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
    for position in range(8, 400, 4):
        lite.write_bytes(whole[:position] + b"\xff\xff\xff\x7f" + whole[position + 4 :])
        assert model_loading._fastest(both) in (both, lite)


def test_a_litert_model_can_be_named_itself(both, tmp_path):
    both.rename(tmp_path / "away.pb")
    model = model_loading.load(both.with_suffix(".tflite"))
    assert model.metadata.labels == ("red", "green", "blue")
    (tmp_path / "bad.tflite").write_bytes(b"rubbish")
    for name in ("bad.tflite", "gone.tflite"):
        with pytest.raises(GraphError, match=name):
            model_loading.load(tmp_path / name)


def test_labelling_with_the_litert_form_imports_no_tensorflow(both, tmp_path):
    picture = photo(tmp_path / "x.png", (255, 0, 0))
    code = (
        "import sys; from retrain.cli import label_image\n"
        f"label_image.main(['--graph', {str(both)!r}, {str(picture)!r}])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    assert "red (score=0.9" in command("python", "-c", code, cwd=tmp_path).stdout


def test_labelling_with_a_frozen_graph_imports_little_and_says_the_same(graph, tmp_path):
    picture = photo(tmp_path / "x.png", (250, 40, 9))
    code = (
        "import sys; from retrain.cli import label_image\n"
        f"label_image.main(['--json', '--graph', {str(graph)!r}, {str(picture)!r}])\n"
        "assert 'keras' not in sys.modules\n"
        "import tensorflow as tf; assert tf.constant(1).numpy() == 1; import tensorflow as tf; assert tf.keras"
    )
    answer = json.loads(command("python", "-c", code, cwd=tmp_path).stdout)
    (expected,) = prediction.label(model_loading.load(graph), [picture])
    assert [entry["label"] for entry in answer["labels"]] == [ranked.label for ranked in expected.ranked]
    assert [entry["score"] for entry in answer["labels"]] == pytest.approx([r.score for r in expected.ranked], abs=1e-5)


def old_graph(path, size=16):
    return write_graph(path, lambda tf, image: tf.nn.softmax(tf.reduce_mean(image, [1, 2]), name="final_result"), size)


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


def test_a_size_that_the_network_cannot_take_is_one_clear_error(tmp_path):
    path = write_graph(
        tmp_path / "g.pb",
        lambda tf, image: tf.nn.softmax(tf.reshape(image, [-1, 16 * 16 * 3])[:, :3], name="final_result"),
    )
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    model = model_loading.load(path, labels=tmp_path / "labels.txt", own=Metadata(height=5, width=7))
    with pytest.raises(GraphError, match="does not run on 7 x 5 px"):
        list(prediction.label(model, [photo(tmp_path / "x.png", (1, 2, 3))]))


@pytest.mark.parametrize("name", ["mobilenet_0.25_128", "mobilenet_0.25_224"])
def test_graphs_that_others_exported_years_ago_are_read(data, name):
    legacy = data / "models" / "legacy"
    model = model_loading.load(legacy / f"retrained_graph_{name}.pb", labels=legacy / f"retrained_labels_{name}.txt")
    size = int(name.rsplit("_", 1)[1])
    assert (model.metadata.height, model.metadata.mean, model.metadata.input) == (size, 127.5, "input")
    picture = next((data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))
    (result,) = prediction.label(model, [picture])
    assert result.error is None
    assert sum(ranked.score for ranked in result.ranked) == pytest.approx(1, abs=1e-3)
