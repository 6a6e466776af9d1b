import json
import os

import numpy as np
import pytest
from builders import LABELS, graph_model
from conftest import command, photo, write_graph
from PIL import Image

from retrain.errors import GraphError, UsageError
from retrain.formats.litert import model as litert_model
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec


def test_top_k_is_sorted_and_stable():
    assert prediction.top_k(np.array([0.1, 0.4, 0.1, 0.4]), 3) == [1, 3, 0]
    assert prediction.top_k(np.array([0.5, 0.5]), 5) == [0, 1]
    assert prediction.top_k(np.repeat([0.1, 0.2], 50), 100) == [*range(50, 100), *range(50)]


def test_each_photo_gets_its_colour(graph, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", colour) for i, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255)))]
    results = list(prediction.label(model_loading.load(graph), paths))
    assert [r.ranked[0].label for r in results] == ["red", "green", "blue"]
    assert all(sum(ranked.score for ranked in r.ranked) == pytest.approx(1, abs=1e-5) for r in results)


def lopsided(path):
    """Write a graph that looks at the left half of an image alone."""
    return write_graph(
        path, lambda tf, image: tf.nn.softmax(9 * tf.reduce_mean(image[:, :, :8], [1, 2]), name="final_result")
    )


def test_two_views_of_many_photos_are_averaged_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (20, 16, 16, 3), np.uint8) // np.array([[[1, 1, 3]]], np.uint8)
    paths = []
    for number, pixels in enumerate(pictures):
        for kind, image in (("", pixels), ("mirrored", pixels[:, ::-1])):
            paths.append(tmp_path / f"{number}{kind}.png")
            Image.fromarray(image).save(paths[-1])
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    spec = Metadata(input=InputSpec(mean=0.0, std=255.0))
    model = model_loading.load(lopsided(tmp_path / "g.pb"), labels=tmp_path / "labels.txt", overrides=spec)
    single = np.stack([row.probabilities for row in prediction.predict_probabilities(model, paths)])
    double = np.stack([row.probabilities for row in prediction.predict_probabilities(model, paths, views=2)])
    assert (single[0::2] != single[1::2]).any(axis=1).all()
    assert np.array_equal(double, np.repeat((single[0::2] + single[1::2]) / 2, 2, axis=0))
    ranked = list(prediction.label(model, paths, views=2))
    assert [[r.score for r in row.ranked] for row in ranked] == np.sort(double)[:, ::-1].tolist()


def test_there_are_no_other_views(graph, tmp_path):
    with pytest.raises(UsageError, match="views is 3; it must be 1 or 2"):
        list(prediction.label(model_loading.load(graph), [photo(tmp_path / "x.png", (1, 2, 3))], views=3))


def test_an_unreadable_image_costs_only_itself(graph, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    good = photo(tmp_path / "good.png", (255, 0, 0))
    results = list(prediction.label(model_loading.load(graph), [tmp_path / "bad.jpg", tmp_path / "gone.jpg", good]))
    assert "not a JPEG" in results[0].error
    assert "No such file" in results[1].error
    assert results[2].ranked[0].label == "red"


def test_a_pipe_or_a_device_is_named_and_never_opened(graph, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    results = list(prediction.label(model_loading.load(graph), [tmp_path / "pipe.jpg", tmp_path / "zero.jpg"]))
    assert [r.error for r in results] == ["not a regular file"] * 2


def test_the_litert_form_gives_the_same_answers(both, tmp_path):
    pictures = [photo(tmp_path / f"{i}.png", colour, seed=i) for i, colour in enumerate(((250, 3, 9), (9, 80, 30)))]
    lite, frozen = model_loading.load(both), graph_model(both)
    assert isinstance(lite, litert_model.LiteRTModel)
    for fast, slow in zip(prediction.label(lite, pictures), prediction.label(frozen, pictures), strict=True):
        assert [r.label for r in fast.ranked] == [r.label for r in slow.ranked]
        assert [r.score for r in fast.ranked] == pytest.approx([r.score for r in slow.ranked], abs=1e-5)


def test_labelling_with_the_litert_form_imports_no_tensorflow(both, tmp_path):
    picture = photo(tmp_path / "x.png", (255, 0, 0))
    code = (
        "import sys; from retrain.cli import label_image\n"
        f"label_image.main(['--graph', {str(both)!r}, {str(picture)!r}])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    assert "red (score=0.9" in command("python", "-c", code, cwd=tmp_path).stdout


@pytest.mark.slow
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


def test_a_size_that_the_network_cannot_take_is_one_clear_error(tmp_path):
    path = write_graph(
        tmp_path / "g.pb",
        lambda tf, image: tf.nn.softmax(tf.reshape(image, [-1, 16 * 16 * 3])[:, :3], name="final_result"),
    )
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    wrong = Metadata(input=InputSpec(height=5, width=7))
    with pytest.raises(GraphError, match="takes images of 16 x 16 px, and --input_height=5 --input_width=7 was given"):
        model_loading.load(path, labels=tmp_path / "labels.txt", overrides=wrong)


def test_a_size_that_a_network_for_any_cannot_take_is_one_clear_error(tmp_path):
    path = write_graph(
        tmp_path / "g.pb",
        lambda tf, image: tf.nn.softmax(tf.reshape(image, [-1, 16 * 16 * 3])[:, :3], name="final_result"),
        size=None,
    )
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    spec = InputSpec(height=5, width=7, mean=0.0, std=255.0)
    model = model_loading.load(path, labels=tmp_path / "labels.txt", overrides=Metadata(input=spec))
    with pytest.raises(GraphError, match="does not run on 7 x 5 px"):
        list(prediction.label(model, [photo(tmp_path / "x.png", (1, 2, 3))]))
