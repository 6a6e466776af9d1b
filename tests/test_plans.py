"""What settings ask of a training."""

from pathlib import Path

import pytest

from retrain.config import RetrainConfig
from retrain.plans import fine_tuning_recipe, recipe_of
from retrain.training import schedule


@pytest.mark.parametrize(
    ("given", "head", "tuned"), [(None, 0.0, schedule.LABEL_SMOOTHING), (0.0, 0.0, 0.0), (0.3, 0.3, 0.3)]
)
def test_labels_are_smoothed_as_asked_in_both_trainings_and_none_is_an_answer(given, head, tuned):
    config = RetrainConfig(Path("photos"), label_smoothing=given)
    assert recipe_of(config).label_smoothing == head
    assert fine_tuning_recipe(config, 1e-4).label_smoothing == tuned
