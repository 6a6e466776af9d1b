import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import history, learning

from retrain.evaluation.overfitting import judge, smooth


def test_a_training_that_generalises_is_said_to():
    found = judge(learning())
    assert found.verdict == "none"
    assert found.sentence.startswith(
        "No overfitting to be seen: accuracy is 95.0% on training photos and 92.8% on validation"
    )
    assert found.lowest_step > 300


def test_a_validation_loss_that_rises_is_overfitting_with_its_figures():
    found = judge(learning(rise=0.3))
    assert found.verdict == "rising"
    assert 90 <= found.lowest_step <= 200
    assert found.validation_cross_entropy > found.lowest + 0.15
    assert f"lowest at step {found.lowest_step} ({found.lowest:.3f})" in found.sentence
    assert f"rose to {found.validation_cross_entropy:.3f}" in found.sentence


def test_photos_learnt_by_heart_without_a_rise_are_overfitting_a_little():
    flat = np.ones(30)
    found = judge(history(flat, 0.8 * flat, 0.05 * flat, 0.6 * flat))
    assert found.verdict == "gap"
    assert "100.0% on training photos and 80.0% on validation photos" in found.sentence


def test_a_rise_that_may_be_chance_is_not_denied():
    flat, noise = np.ones(30), 0.3 * np.cos(np.arange(30) * 2.0)
    found = judge(history(flat, 0.8 * flat, 0.05 * flat, 0.6 + noise + 0.1 * np.linspace(0, 1, 30)))
    assert found.verdict == "gap"
    assert found.validation_cross_entropy > found.lowest + 0.05
    assert f"no clear harm: the validation cross-entropy was {found.lowest:.3f} at best" in found.sentence


def test_a_gap_that_few_validation_photos_cannot_show_is_none():
    flat = np.ones(30)
    assert judge(history(flat, 0.9 * flat, 0.05 * flat, 0.3 * flat, count=10)).verdict == "none"
    assert judge(history(flat, 0.9 * flat, 0.05 * flat, 0.3 * flat, count=1000)).verdict == "gap"


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_overfitting(seed):
    random = np.random.default_rng(seed)
    losses = 0.4 + 0.08 * random.standard_normal(60)
    flat = np.ones(60)
    assert judge(history(0.9 * flat, 0.89 * flat, 0.35 * flat, losses)).verdict == "none"


def test_what_cannot_be_known_is_said():
    nothing = np.full(20, np.nan)
    assert "no validation photos" in judge(history(nothing, nothing, nothing, nothing, count=0)).sentence
    assert "too few evaluations" in judge(learning(4)).sentence
    assert judge([]).verdict == "unknown"


@given(st.lists(st.floats(-1e3, 1e3), min_size=0, max_size=60))
def test_smoothing_stays_within_the_values_and_keeps_their_number(values):
    found = smooth(np.array(values, np.float64))
    assert len(found) == len(values)
    if values:
        assert min(values) - 1e-6 <= found.min() <= found.max() <= max(values) + 1e-6


def test_smoothing_bridges_gaps():
    found = smooth(np.array([1.0, np.nan, 1.0, 1.0, np.nan]))
    np.testing.assert_allclose(found, 1.0)
