"""The step size of a fine-tuning warms up, falls to 0, and is smaller for lower layers."""

import numpy as np
import pytest

from retrain.training import schedule


def test_the_rate_rises_by_a_square_and_falls_along_a_cosine_to_nothing():
    rates = [schedule.rate_at(progress) for progress in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.25)
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_lower_layers_have_smaller_rates(count):
    rates = schedule.layer_rates(count)
    assert len(rates) == count
    assert rates == sorted(rates)
    assert rates[-1:] == [1.0][:count]
    if count > 1:
        assert rates[0] == pytest.approx(schedule.LOWEST_RATE)


def test_a_first_step_goes_as_far_as_the_rate_of_its_variable():
    """Adam's first step is the step size itself, whatever the gradient."""
    import keras

    variables = [keras.Variable(np.zeros(3, np.float32)) for _ in range(2)]
    optimizer = schedule.adamw([0.25, 1.0])
    optimizer.build(variables)
    optimizer.learning_rate = 0.01
    optimizer.apply([keras.ops.ones(3) * 7, keras.ops.ones(3) * 7], variables)
    assert variables[0].numpy() == pytest.approx(-0.0025, rel=1e-4)
    assert variables[1].numpy() == pytest.approx(-0.01, rel=1e-4)
