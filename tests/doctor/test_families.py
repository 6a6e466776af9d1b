"""Curves that are known beyond their end."""

import numpy as np
import pytest

from retrain.doctor import families

SIZES = np.array([80.0, 144, 256, 448, 800])


@pytest.mark.parametrize(
    "curve",
    [
        lambda n: 0.95 - 2 * n**-0.5,
        lambda n: 0.4 + 0.07 * np.log(n),
        lambda n: 0.9 - 30 / (n + 60),
        lambda n: np.full(len(n), 0.7),
    ],
)
def test_families_say_how_a_curve_goes_on_and_differ(curve):
    said = families.extrapolated(curve(SIZES)[None, :], SIZES, np.array([800.0, 1600]))[:, 0]
    np.testing.assert_allclose(said[:, 0], curve(SIZES)[-1], atol=0.01)
    true = curve(np.array([1600.0]))[0]
    assert said[:, 1].min() - 0.002 <= true <= said[:, 1].max() + 0.002
    assert np.abs(said[:, 1] - true).max() < 0.05


def test_more_photos_never_harm_and_no_accuracy_exceeds_1():
    rng = np.random.default_rng(0)
    said = families.extrapolated(rng.uniform(0.5, 1.0, size=(300, 5)), SIZES, np.array([800.0, 1600, 8000]))
    assert said.shape == (len(families.FAMILIES), 300, 3)
    assert (np.diff(said, axis=2) >= 0).all()
    assert said.max() <= 1
