import numpy as np
import pytest

from retrain.formats import classifier


def test_scores_between_0_and_1_are_left_alone():
    for scores in ([[0.9, 0.1]], [[0.9, 0.8]], [[1.0000002, 0.0]]):  # softmax, sigmoids, a rounded one
        given = np.array(scores, np.float32)
        assert classifier.as_probabilities(given) is given


def test_logits_go_through_a_softmax_without_overflow():
    found = classifier.as_probabilities(np.array([[1000.0, 1000.0], [-5.0, 5.0]], np.float32))
    assert found[0] == pytest.approx([0.5, 0.5])
    assert found.sum(axis=1) == pytest.approx([1, 1])
