"""The intervals of learning curves beside what came, as `scripts/learning_curves.py` counts them."""

import numpy as np
import pytest
from doctor.photo_sets import gaussians
from scripts import learning_curves
from scripts.linear_probe import LabelledVectors


@pytest.mark.slow
def test_intervals_from_half_of_the_photos_hold_for_all_of_them():
    vectors, labels = gaussians(400, dimension=48, classes=3, apart=0.3)
    result = learning_curves.compare(LabelledVectors(vectors, labels), halves=3)
    assert result.halves == 3
    assert result.classes == 9
    assert result.held >= 2
    assert result.classes_held >= 6
    assert 0 < result.width < 0.3


def test_halves_have_half_of_each_class_and_differ_by_seed():
    labels = np.arange(60) % 3
    first, again, other = (learning_curves.half(labels, seed) for seed in (0, 0, 1))
    assert np.bincount(labels[first]).tolist() == [10, 10, 10]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
