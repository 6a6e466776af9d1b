"""Folds, and what is out of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.errors import TrainingError
from retrain.training import cross_validation, head_training, sampling
from retrain.training.cross_validation import PhotoBottlenecks
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

PLAN = TrainingPlan(steps=200, batch_size=32, validation_batch_size=10, eval_step_interval=10, seed=0)
RECIPE = HeadRecipe(learning_rate=0.05)


def photos_of(vectors, labels):
    return cross_validation.plain(lambda rows: vectors[rows].copy(), labels, int(labels.max()) + 1)


def alone(count):
    """Return groups of one photo each."""
    return np.arange(count)


def gaussians(count, dimension=8, classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    vectors = rng.normal(size=(classes, dimension))[labels] * 6 + rng.normal(size=(count, dimension))
    return vectors.astype(np.float32), labels


labelled = st.lists(st.integers(0, 4), min_size=2, max_size=60)


@given(labelled, st.integers(2, 7), st.integers(0, 9))
def test_folds_have_equal_shares_of_each_class_and_of_all_photos(labels, folds, seed):
    labels = np.array(labels)
    fold = cross_validation.assign_folds(labels, alone(len(labels)), folds=folds, seed=seed)
    folds = min(folds, len(labels))
    assert set(fold) == set(range(folds))
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    for class_id in set(labels.tolist()):
        assert np.ptp(np.bincount(fold[labels == class_id], minlength=folds)) <= 1


@given(labelled, st.integers(1, 7), st.integers(0, 60))
def test_photos_that_are_dealt_lie_where_they_would_one_after_another(labels, folds, count):
    sizes = np.bincount(labels, minlength=5) + count
    one, other = (cross_validation.Filling(sizes, folds=folds) for _ in range(2))
    for filling in (one, other):  # groups, of which some folds have more
        for class_id in labels[: len(labels) // 2]:
            filling.add({class_id: 1 + class_id})
    for class_id in range(5):
        assert one.deal(class_id, count).tolist() == [other.add({class_id: 1}) for _ in range(count)]


@given(labelled, st.data(), st.integers(2, 7))
def test_a_group_lies_in_one_fold_whatever_its_classes(labels, data, folds):
    labels = np.array(labels)
    groups = np.array(data.draw(st.lists(st.integers(0, 20), min_size=len(labels), max_size=len(labels))))
    fold = cross_validation.assign_folds(labels, groups, folds=folds, seed=0)
    for group in set(groups.tolist()):
        assert len(set(fold[groups == group].tolist())) == 1
    assert len(set(fold.tolist())) == min(folds, len(set(groups.tolist())))
    largest = np.bincount(groups).max()
    if len(set(labels.tolist())) == 1:
        assert np.ptp(np.bincount(fold)) <= largest


def test_the_seed_alone_decides_which_photos_are_together():
    labels = np.arange(100) % 4
    first, again, other = (cross_validation.assign_folds(labels, alone(100), folds=5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.arange(100) % 5)  # neighbours in a folder, of one series often, are mixed


def test_each_photo_is_scored_by_the_head_of_the_other_folds():
    vectors, labels = gaussians(60)
    fold = cross_validation.assign_folds(labels, alone(60), folds=3, seed=0)
    found = cross_validation.out_of_fold(photos_of(vectors, labels), fold, RECIPE, PLAN)
    for number in range(3):
        others = np.flatnonzero(fold != number)
        samples = sampling.sample_training(labels, others, np.zeros(0, np.int64), PLAN)
        data = TrainingData(lambda rows: vectors[rows].copy(), labels, others, 3)
        head = head_training.train(data, samples, RECIPE, PLAN).head
        assert found[fold == number] == pytest.approx(head.probabilities(vectors[fold == number]), abs=1e-5)
    assert found.dtype == np.float32
    assert (found.argmax(axis=1) == labels).mean() > 0.95


def test_random_labels_that_a_head_can_learn_by_heart_give_chance():
    """With more dimensions than photos, a photo that its own head had seen would be right."""
    rng = np.random.default_rng(3)
    vectors, labels = rng.normal(size=(300, 400)).astype(np.float32), rng.permutation(300) % 2
    fold = cross_validation.assign_folds(labels, alone(300), folds=5, seed=0)
    photos = photos_of(vectors, labels)
    right = (cross_validation.out_of_fold(photos, fold, RECIPE, PLAN).argmax(axis=1) == labels).mean()
    assert right == pytest.approx(0.5, abs=5 * math.sqrt(1 / 4 / 300))
    data = TrainingData(photos.gather, labels, alone(300), 2)
    seen = head_training.train(data, sampling.sample_training(labels, alone(300), alone(0), PLAN), RECIPE, PLAN)
    assert (seen.head.probabilities(vectors).argmax(axis=1) == labels).mean() > 0.95


def test_duplicates_with_random_labels_are_found_out_only_where_they_are_apart():
    """A photo that trains on its own copy knows its label."""
    rng = np.random.default_rng(4)
    vectors = np.repeat(rng.normal(size=(150, 400)).astype(np.float32), 2, axis=0)
    labels = np.repeat(rng.permutation(150) % 2, 2)

    def accuracy(groups):
        fold = cross_validation.assign_folds(labels, groups, folds=5, seed=0)
        found = cross_validation.out_of_fold(photos_of(vectors, labels), fold, RECIPE, PLAN)
        return (found.argmax(axis=1) == labels).mean()

    assert accuracy(np.repeat(alone(150), 2)) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 4 / 150))
    assert accuracy(alone(300)) > 0.75


def test_distorted_copies_are_trained_on_and_never_scored():
    vectors, labels = gaussians(60)
    stored = np.concatenate([vectors, -vectors, -vectors])  # the copies say the contrary
    rows = np.arange(180).reshape(3, 60)
    photos = PhotoBottlenecks(lambda wanted: stored[wanted].copy(), labels, rows[0], rows[1:].T, 3)
    fold = cross_validation.assign_folds(labels, alone(60), folds=3, seed=0)
    found = cross_validation.out_of_fold(photos, fold, RECIPE, PLAN)
    turned = replace(photos, scored=rows[1])
    assert (cross_validation.out_of_fold(turned, fold, RECIPE, PLAN).argmax(axis=1) == labels).mean() > 0.95
    assert (found.argmax(axis=1) == labels).mean() < 0.3


@pytest.mark.slow
def test_heads_that_keras_trains_are_cross_validated_and_repeat():
    vectors, labels = gaussians(60)
    fold = cross_validation.assign_folds(labels, alone(60), folds=2, seed=0)
    recipe = HeadRecipe(learning_rate=0.01, hidden_units=(8,), dropout=0.1, optimizer="adam")
    one, again = (cross_validation.out_of_fold(photos_of(vectors, labels), fold, recipe, PLAN) for _ in range(2))
    assert np.array_equal(one, again)
    assert (one.argmax(axis=1) == labels).mean() > 0.9


def test_patience_and_intermediate_heads_change_nothing():
    vectors, labels = gaussians(40)
    fold = cross_validation.assign_folds(labels, alone(40), folds=2, seed=0)
    plans = PLAN, replace(PLAN, patience=1, checkpoint_every=7, eval_step_interval=3)
    one, other = (cross_validation.out_of_fold(photos_of(vectors, labels), fold, RECIPE, plan) for plan in plans)
    assert np.array_equal(one, other)


def test_every_fold_is_reported_and_a_training_that_diverges_is_an_error():
    vectors, labels = gaussians(40)
    fold = cross_validation.assign_folds(labels, alone(40), folds=4, seed=0)
    calls = []
    cross_validation.out_of_fold(
        photos_of(vectors, labels), fold, RECIPE, PLAN, advance=lambda *numbers: calls.append(numbers)
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(TrainingError, match="diverged"):
        cross_validation.out_of_fold(photos_of(vectors, labels), fold, HeadRecipe(learning_rate=1e38), PLAN)


def test_a_class_of_one_photo_is_never_right_and_costs_nothing_else():
    vectors, labels = gaussians(61)
    labels[60], vectors[60] = 3, 20
    fold = cross_validation.assign_folds(labels, alone(61), folds=3, seed=0)
    found = cross_validation.out_of_fold(photos_of(vectors, labels), fold, RECIPE, PLAN)
    assert found.shape == (61, 4)
    assert found[60].argmax() != 3
    assert (found[:60].argmax(axis=1) == labels[:60]).mean() > 0.95
