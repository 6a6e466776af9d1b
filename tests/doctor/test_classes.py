"""Classes that are too small, or the same."""

import numpy as np
import pytest
from doctor.photo_sets import photos_of

from retrain.doctor import classes
from retrain.doctor.findings import Kind


def counted(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return photos_of(np.zeros((len(labels), 2), np.float32), labels), np.eye(len(counts), dtype=np.float32)[labels]


def scored(count, share, *, seed=0):
    """Return photos of three classes and scores: the first two are told apart in a share of their photos."""
    rng = np.random.default_rng(seed)
    labels = np.arange(3 * count) % 3
    given = np.where((rng.random(len(labels)) < share) | (labels == 2), labels, 1 - labels)
    scores = np.full((len(labels), 3), 0.01, np.float32)
    scores[np.arange(len(labels)), given] = 0.98
    return photos_of(np.zeros((len(labels), 2), np.float32), labels), scores


@pytest.mark.parametrize("counts", [(20, 20), (20, 199), (100, 110, 120)])
def test_classes_of_many_photos_are_fine(counts):
    assert classes.check(*counted(*counts)) == []


def test_small_classes_are_named_with_their_counts_the_smallest_first():
    (found,) = classes.check(*counted(12, 100, 1))
    assert found.kind is Kind.TOO_FEW
    assert "1 photo of 'class_2', 12 photos of 'class_0'" in found.sentence
    assert found.figures == {"counts": {"class_2": 1, "class_0": 12}}


def test_fewer_photos_are_worse():
    worst = [classes.check(*counted(100, count))[0].severity for count in (1, 5, 19)]
    assert worst == sorted(worst, reverse=True)
    assert 0 <= worst[-1] < worst[0] <= 1


def test_a_class_with_a_tenth_of_the_photos_of_another_is_named_with_it():
    (found,) = classes.check(*counted(20, 240, 200))
    assert found.kind is Kind.BALANCE
    assert "'class_1' has 240 photos, 12 times as many as 'class_0'" in found.sentence
    assert found.figures == {"counts": {"class_0": 20, "class_1": 240}}


def test_two_classes_that_no_head_parts_are_one():
    (found,) = classes.check(*scored(150, 0.5))
    assert found.kind is Kind.MERGE_CLASSES
    assert found.figures["classes"] == ["class_0", "class_1"]
    assert found.figures["told_apart"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("count", "share"), [(150, 0.75), (20, 0.6)])
def test_classes_that_are_hard_or_too_few_to_tell_are_not_merged(count, share):
    assert classes.check(*scored(count, share)) == []


def test_naming_always_the_larger_class_does_not_tell_two_apart():
    labels = np.repeat([0, 1], [300, 100])
    scores = np.tile(np.array([[0.8, 0.2]], np.float32), (400, 1))
    (found,) = classes.check(photos_of(np.zeros((400, 2), np.float32), labels), scores)
    assert found.figures["told_apart"] == 0.5


@pytest.mark.parametrize(("count", "kinds"), [(9, {Kind.TOO_FEW}), (10, {Kind.TOO_FEW, Kind.MERGE_CLASSES})])
def test_pairs_of_a_few_photos_are_too_few_and_not_the_same(count, kinds):
    assert {finding.kind for finding in classes.check(*scored(count, 0.0))} == kinds
