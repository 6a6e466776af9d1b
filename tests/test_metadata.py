import numpy as np
import pytest

from retrain import metadata, preprocessing
from retrain.formats import classifier
from retrain.metadata import Metadata


def test_scores_between_0_and_1_are_left_alone():
    for scores in ([[0.9, 0.1]], [[0.9, 0.8]], [[1.0000002, 0.0]]):  # softmax, sigmoids, a rounded one
        given = np.array(scores, np.float32)
        assert classifier.as_probabilities(given) is given


def test_logits_go_through_a_softmax_without_overflow():
    found = classifier.as_probabilities(np.array([[1000.0, 1000.0], [-5.0, 5.0]], np.float32))
    assert found[0] == pytest.approx([0.5, 0.5])
    assert found.sum(axis=1) == pytest.approx([1, 1])


def test_pixels_are_scaled_zero_included():
    pixels = np.array([[0, 255]], np.uint8)
    assert preprocessing.scale_pixels(pixels, Metadata(mean=0.0, std=255.0)).tolist() == [[0.0, 1.0]]
    assert preprocessing.scale_pixels(pixels, Metadata(mean=127.5, std=127.5)).tolist() == [[-1.0, 1.0]]
    assert preprocessing.scale_pixels(pixels, Metadata()).dtype == np.float32


def test_what_a_later_version_wrote_is_read():
    told = Metadata.from_json('{"labels": ["a"], "colour_of_the_sky": "blue"}')
    assert told == Metadata(labels=("a",))
    for text in ("[]", "{}", '{"labels": 3}'):
        with pytest.raises(ValueError, match="no metadata of retrain"):
            Metadata.from_json(text)


def test_labels_come_back_one_a_line(tmp_path):
    labels = ["Rose-A", "тюльпан", "it's", "two\nlines"]
    metadata.write_labels(tmp_path / "labels.txt", labels)
    assert metadata.read_labels(tmp_path / "labels.txt") == ("Rose-A", "тюльпан", "it's", "two lines")
