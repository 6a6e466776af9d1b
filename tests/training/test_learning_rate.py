"""`--learning_rate auto` finds the rate by the validation photos."""

import time

import numpy as np
import pytest

from retrain.errors import TrainingError
from retrain.training import head_training, learning_rate, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

PLAN = TrainingPlan(steps=400, batch_size=20, validation_batch_size=10, eval_step_interval=10, seed=0)


def noisy(count=240, classes=4, dimension=32, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.int64)
    means = rng.normal(size=(classes, dimension)) * 0.5
    return (means[labels] + rng.normal(size=(count, dimension))).astype(np.float32), labels


def found(vectors, labels, recipe=None, plan=PLAN, validation=80):
    split = np.arange(len(labels))
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, split[validation:], int(labels.max()) + 1)
    return learning_rate.find(data, split[:validation], recipe or HeadRecipe(), plan)


def test_halves_of_the_rates_are_trained_for_longer_and_longer_on_all_validation_photos():
    attempts = found(*noisy())
    assert sorted(attempt.rate for attempt in attempts) == sorted(learning_rate.RATES)
    assert [attempt.steps for attempt in attempts] == [200] * 2 + [100] * 2 + [50] * 4
    assert {attempt.evaluation.validation_count for attempt in attempts} == {80}
    for steps in (200, 100, 50):  # of equal accuracies, the smaller cross-entropy is better
        ranks = [attempt.evaluation.rank for attempt in attempts if attempt.steps == steps]
        assert ranks == sorted(ranks, reverse=True)
    assert attempts == found(*noisy())


def test_what_is_reported_of_a_rate_is_what_a_training_with_it_gives():
    vectors, labels = noisy()
    best = found(vectors, labels)[0]
    plan = TrainingPlan(best.steps, PLAN.batch_size, -1, best.steps, PLAN.seed)
    split = np.arange(len(labels))
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, split[80:], 4)
    samples = sampling.sample_training(labels, split[80:], split[:80], plan)
    head = head_training.train(data, samples, HeadRecipe(best.rate), plan).head
    right = (head.logits(vectors[:80]).argmax(axis=1) == labels[:80]).mean()
    assert best.evaluation.validation_accuracy == pytest.approx(right)


def test_of_very_many_validation_photos_some_of_each_class_are_enough(monkeypatch):
    monkeypatch.setattr(learning_rate, "MOST_VALIDATION", 40)
    attempts = found(*noisy())
    assert {attempt.evaluation.validation_count for attempt in attempts} == {40}
    assert "on 40 validation photos after" in learning_rate.describe(attempts)


def test_a_rate_too_small_to_learn_anything_is_not_taken():
    attempts = found(*noisy(), plan=TrainingPlan(80, 20, 10, 10, seed=0))
    assert attempts[0].rate > min(learning_rate.RATES)


def test_a_search_without_time_finds_none_and_one_with_enough_what_it_finds_without_a_limit():
    vectors, labels = noisy()
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, np.arange(80, 240), 4)
    plan = TrainingPlan(4000, 20, 10, 10, seed=0)
    assert learning_rate.find(data, np.arange(80), HeadRecipe(), plan, time.monotonic() - 1) == []
    plan = TrainingPlan(400, 20, 10, 10, seed=0)
    early = learning_rate.find(data, np.arange(80), HeadRecipe(), plan, time.monotonic() + 3600)
    assert early == learning_rate.find(data, np.arange(80), HeadRecipe(), plan)


def test_the_line_names_the_rate_and_what_the_others_gave():
    attempts = found(*noisy())
    line = learning_rate.describe(attempts)
    best = attempts[0]
    start = f"Learning rate {best.rate:g}: {best.evaluation.validation_accuracy:.1%} on all 80 validation photos after "
    assert line.startswith(start + "200 steps (")
    for attempt in attempts[1:]:
        assert f"{attempt.rate:g}: {attempt.evaluation.validation_accuracy:.1%}" in line
    assert "\n" not in line


def test_without_validation_photos_there_is_one_clear_error():
    with pytest.raises(TrainingError, match="auto needs validation images, and there are none"):
        found(*noisy(), validation=0)


def test_rates_that_all_diverge_are_one_clear_error():
    vectors, labels = noisy()
    with pytest.raises(TrainingError, match="diverged at every learning rate from 0.0003 to 1"):
        found(np.full_like(vectors, np.nan), labels)


@pytest.mark.slow
def test_any_head_has_a_rate():
    recipe = HeadRecipe(hidden_units=(8,), optimizer="adam", schedule="cosine")
    attempts = found(*noisy(), recipe=recipe, plan=TrainingPlan(80, 20, 10, 10, seed=0, patience=2))
    assert attempts[0].evaluation.validation_accuracy > 0.4  # of four classes
