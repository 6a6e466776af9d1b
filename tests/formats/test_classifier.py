from pathlib import Path

import numpy as np
import pytest

from retrain.errors import GraphError
from retrain.formats import classifier
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec


class Answering(classifier.Classifier):
    """A model of 4 x 4 px that gives what a function of the mean of an image, 0 to 255, says."""

    def __init__(self, answer, labels=("a", "b"), class_count=2, last_operation=None, kind=np.float32):
        self.metadata, self.path = Metadata(labels, InputSpec("x", 4, 4, 0.0, 1.0), "y"), Path("m.pb")
        self.class_count, self.last_operation, self._answer, self._kind = class_count, last_operation, answer, kind

    def scores(self, pixels):
        return np.stack([np.array(self._answer(image.mean()), self._kind) for image in pixels])


def images(*brightnesses):
    return np.stack([np.full((4, 4, 3), value, np.uint8) for value in brightnesses])


def test_scores_of_a_softmax_or_of_sigmoids_are_left_alone():
    for scores in ([[0.9, 0.1]], [[0.9, 0.8]], [[1.0000002, 0.0]]):  # softmax, sigmoids, a rounded one
        given = np.array(scores, np.float32)
        assert classifier.as_probabilities(given, logits=False) is given


def test_logits_go_through_a_softmax_without_overflow():
    found = classifier.as_probabilities(np.array([[1000.0, 1000.0], [-5.0, 5.0]], np.float32), logits=True)
    assert found[0] == pytest.approx([0.5, 0.5])
    assert found.sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize("last_operation", ["matmul", None])
def test_what_scores_are_is_decided_for_the_model_and_not_for_each_image(last_operation):
    model = Answering(lambda mean: [mean / 100, 0.2], last_operation=last_operation)
    for pixels in (images(10), images(250), images(10, 250)):  # [0.1, 0.2] could be scores of their own
        assert model(pixels).sum(axis=1) == pytest.approx(np.ones(len(pixels)))


def test_small_scores_of_sigmoids_stay_as_they_are():
    model = Answering(lambda mean: [mean / 300, 0.2])
    assert model(images(30)) == pytest.approx(np.array([[0.1, 0.2]]))


def test_half_floats_are_scores():
    found = Answering(lambda mean: [0.25, 0.75], kind=np.float16)(images(30))
    assert (found.dtype, found.tolist()) == (np.float32, [[0.25, 0.75]])


@pytest.mark.parametrize(("last_operation", "expected"), [("sigmoid", [0.9, 0.1]), ("dense", [0.475, 0.525])])
def test_one_unit_is_the_second_of_two_classes(last_operation, expected):
    model = Answering(lambda mean: [mean / 100], class_count=1, last_operation=last_operation)
    assert model(images(10))[0] == pytest.approx(expected, abs=1e-3)


def test_one_unit_behind_a_softmax_is_refused():
    with pytest.raises(GraphError, match="always 1 behind a softmax"):
        Answering(lambda mean: [1.0], class_count=1, last_operation="softmax")(images(1))


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d")])
def test_a_number_of_scores_that_only_the_answer_tells_must_be_that_of_the_labels(labels):
    model = Answering(lambda mean: [0.1, 0.2, 0.7], labels, class_count=None)
    with pytest.raises(GraphError, match=rf"3 classes, but there are {len(labels)} labels"):
        model(images(1))


def test_class_numbers_are_no_scores():
    model = Answering(lambda mean: 1, class_count=None, kind=np.int64)
    with pytest.raises(GraphError, match="gives int64 and no scores at y. Name another output with --output_layer"):
        model(images(1))


@pytest.mark.parametrize("shape", [(None, 8, 8, 3), (None, None, None, None), ("n", "h", "w", "c")])
def test_rgb_images_are_taken(shape):
    classifier.check_image_shape(Path("m"), shape)


@pytest.mark.parametrize("shape", [(None, 8, 8, 1), (None, 8, 8), (1, 8, 8, 4), (None, 3, 8, 8)])
def test_only_rgb_images_are_taken(shape):
    with pytest.raises(GraphError, match=r"^m takes .*Only models of RGB images"):
        classifier.check_image_shape(Path("m"), shape)
