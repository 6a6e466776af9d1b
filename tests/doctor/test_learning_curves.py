"""The intervals of learning curves beside what came, as `scripts/doctor/learning_curves.py` counts them."""

import numpy as np
import pytest
from doctor.photo_sets import gaussians
from scripts.doctor import learning_curves
from scripts.doctor.learning_curves import Trial
from scripts.linear_probe import LabelledVectors

from retrain.evaluation.metrics import Interval


@pytest.mark.slow
def test_intervals_from_half_of_the_photos_hold_for_all_of_them():
    vectors, labels = gaussians(400, dimension=48, classes=3, apart=0.3)
    result = learning_curves.compare(LabelledVectors(vectors, labels), halves=3)
    assert result.halves == 3
    assert result.classes == 9
    assert result.held >= 2
    assert result.classes_held >= 6
    assert 0 < result.width < 0.3


def test_parts_have_their_share_of_each_class_and_differ_by_seed():
    labels, shares = np.arange(90) % 3, np.array([0.5, 0.4, 0.1])
    first, again, other = (learning_curves._part(labels, shares, seed, least=10) for seed in (0, 0, 1))
    assert np.bincount(labels[first]).tolist() == [15, 12, 10]
    assert np.bincount(labels[learning_curves.half(labels, 0)]).tolist() == [15, 15, 15]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_photos_of_a_class_that_lacks_them_raise_the_mean_recall_more():
    vectors, labels = gaussians(900, dimension=48, classes=3, apart=0.4)
    known = learning_curves._part(labels, np.array([0.05, 0.4, 0.4]), 0)
    few, many = learning_curves.gains(LabelledVectors(vectors, labels), known, [(0, 60), (1, 60)], 0)
    assert few > many
    assert few > 0


@pytest.mark.parametrize(("case", "counts"), [("as they are", 1), ("few of one class", 2), ("classes of all sizes", 5)])
def test_each_case_leaves_its_share_of_photos(case, counts):
    shares = learning_curves.shares_of(case, np.arange(500) % 5, 3)
    assert len(set(shares.tolist())) == counts
    assert shares.max() == pytest.approx(0.45)
    assert shares.min() == pytest.approx(0.45 if counts == 1 else 0.09)


@pytest.mark.slow
def test_advice_is_taken_from_a_part_and_tried_with_the_rest():
    vectors, labels = gaussians(1500, dimension=48, classes=3, apart=0.3)
    trial = learning_curves.try_advice(LabelledVectors(vectors, labels), np.array([0.1, 0.45, 0.45]), 0)
    assert 0 < trial.said.low < trial.said.high
    assert abs(trial.advised) < 0.1
    assert abs(trial.other) < 0.1


def test_rows_count_advice_that_was_right_and_intervals_that_held():
    said = Interval(0.01, 0.03)
    trials = [None, Trial(0.02, 0.01, said), Trial(0.04, -0.01, said), Trial(0.00, 0.01, said)]
    assert learning_curves._row(trials) == "3 of 4 | 2 | +2.0 | +0.3 | 1"
    assert learning_curves._row([None]) == "0 of 1 | | | |"
