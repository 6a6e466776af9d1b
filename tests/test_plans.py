"""What settings ask of a training."""

from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import pytest
from builders import terminal
from conftest import colour_folder

from retrain import folds
from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.data.variants import Distorter
from retrain.evaluation.folds import ENOUGH
from retrain.plans import fine_tuning_plan, fine_tuning_recipe, recipe_of
from retrain.training import schedule
from retrain.training.recipe import fine_tuning_defaults

MILLION = 10**6


@pytest.mark.parametrize(
    ("given", "head", "tuned"), [(None, 0.0, schedule.LABEL_SMOOTHING), (0.0, 0.0, 0.0), (0.3, 0.3, 0.3)]
)
def test_labels_are_smoothed_as_asked_in_both_trainings_and_none_is_an_answer(given, head, tuned):
    config = RetrainConfig(Path("photos"), label_smoothing=given)
    assert recipe_of(config).label_smoothing == head
    assert fine_tuning_recipe(config, 1e-4).label_smoothing == tuned


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fine_tune_steps", "{few.epochs} epochs for a network of less than a million parameters, else {many.epochs}"),
        (
            "fine_tune_learning_rate",
            "{few.learning_rate:g} for a network of less than a million parameters, else {many.learning_rate:g}",
        ),
        ("label_smoothing", "default: 0; in fine-tuning {smoothing:g}"),
        ("folds", "{usual} where there are fewer than {enough} test photos"),
    ],
)
def test_the_help_says_the_defaults_that_follow_from_the_rest(name, said):
    (text,) = (each.metadata["setting"].help for each in fields(RetrainConfig) if each.name == name)
    assert (
        said.format(
            few=fine_tuning_defaults(MILLION - 1),
            many=fine_tuning_defaults(MILLION),
            smoothing=schedule.LABEL_SMOOTHING,
            usual=folds.USUAL,
            enough=ENOUGH,
        )
        in text
    )


@pytest.mark.slow
def test_a_fine_tuning_goes_by_epochs_unless_its_steps_are_set(tmp_path, mean_colour_backbone):
    photos = scan(colour_folder(tmp_path / "photos", per_class=20))
    source = families.locate(
        replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour"), WeightsRequest(tmp_path)
    )
    settings, shown = PreparationSettings(tmp_path / "b", Distorter(Distortions(), 0)), terminal()[0]
    small, training = fine_tuning_defaults(0), sum(photos.counts(Split.TRAINING))
    with ExitStack() as opened:
        prepared = prepare(photos, source, settings, None, terminal=shown, opened=opened)

        def plan(**more):
            config = RetrainConfig(tmp_path / "photos", fine_tune_from="all", fine_tune_batch_size=4, **more)
            return fine_tuning_plan(config, prepared, tmp_path / "c.npz", None)

        assert plan().steps == small.epochs * round(training / 4)
        assert plan().recipe.learning_rate == small.learning_rate
        assert plan().steps_per_evaluation == round(training / 4)
        set_by_hand = plan(fine_tune_steps=7, fine_tune_learning_rate=0.01)
        assert (set_by_hand.steps, set_by_hand.recipe.learning_rate) == (7, 0.01)
        assert set_by_hand.steps_per_evaluation == 1
