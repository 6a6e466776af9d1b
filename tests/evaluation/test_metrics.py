import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.evaluation import metrics


def test_uniform_probabilities_score_ln_of_the_class_count():
    assert metrics.cross_entropy(np.full((8, 5), 0.2, np.float32), np.arange(8) % 5) == pytest.approx(math.log(5))


def test_a_probability_of_zero_costs_much_but_not_infinity():
    loss = metrics.cross_entropy(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert 80 < loss < math.inf


def test_accuracy_is_the_share_of_right_rows():
    probabilities = np.eye(4, dtype=np.float32)
    assert metrics.accuracy(probabilities, np.array([0, 1, 3, 3])) == 0.75


def test_the_confusion_matrix_counts_every_image_once():
    rng = np.random.default_rng(1)
    probabilities, labels = rng.random((100, 4)), rng.integers(0, 4, 100)
    matrix = metrics.confusion_matrix(probabilities, labels)
    assert matrix.sum() == 100
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, minlength=4).tolist()
    assert np.trace(matrix) / 100 == metrics.accuracy(probabilities, labels)


def test_figures_of_a_known_matrix():
    first, second, third = metrics.class_figures(np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]]))
    assert (first.precision, first.recall, first.count) == (pytest.approx(8 / 12), 0.8, 10)
    assert second.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert math.isnan(third.precision)
    assert math.isnan(third.recall)


def test_confused_pairs_are_those_off_the_diagonal_the_most_frequent_first():
    confusion = np.array([[9, 1, 3], [0, 0, 1], [3, 0, 5]])
    assert metrics.confusions(confusion) == [(0, 2, 3), (2, 0, 3), (0, 1, 1), (1, 2, 1)]
    assert metrics.confusions(np.diag([3, 0])) == []
    assert confusion.trace() == 14  # it is left as it was


def test_the_wilson_interval_of_a_textbook_case():
    # 81 of 263: Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
    interval = metrics.wilson_interval(81, 263)
    assert (interval.low, interval.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_wilson_interval_holds_the_share(hits, misses):
    interval = metrics.wilson_interval(hits, hits + misses)
    share = hits / (hits + misses) if hits + misses else 0.5
    assert 0 <= interval.low <= share + 1e-12
    assert share - 1e-12 <= interval.high <= 1
