"""Test photos that lie in the wrong class, by scores of a model that has not seen them."""

import numpy as np
import pytest
from doctor.photo_sets import photos_of

from retrain.doctor import tested
from retrain.doctor.findings import Kind


def scores(labels, sure, seed=0):
    """Return probabilities float32 [n, 3] of a model that is more or less sure of each of some labels int64 [n]."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += sure
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_flipped_labels_are_named_with_what_they_do_to_the_accuracy():
    true = np.arange(400) % 3
    labels = true.copy()
    labels[[7, 107, 203]] = (labels[[7, 107, 203]] + 1) % 3
    photos, numbers = photos_of(np.zeros((400, 4), np.float32), labels, names=["a", "b", "c"]), np.arange(5, 305)
    (finding,) = tested.check(photos, numbers, scores(true[numbers], 8))
    assert finding.kind is Kind.LABEL
    assert sorted(finding.photos) == ["a/107.jpg", "a/203.jpg", "c/7.jpg"]
    assert finding.figures["accuracy"] == pytest.approx(0.99)
    assert finding.figures["accuracy_if_wrong"] == 1
    assert "3 of 300 test photos are likely in the wrong class" in finding.sentence
    assert "the test accuracy is 99.0%, and 100.0% if all of them are" in finding.sentence
    classes = {mark.path: mark.class_name for mark in finding.marks}
    assert classes == {"c/7.jpg": "b", "a/107.jpg": "c", "a/203.jpg": "c"}


@pytest.mark.parametrize("sure", [0, 1, 3, 9])
def test_mistakes_of_a_model_that_is_as_sure_as_it_is_right_are_hardly_ever_named(sure):
    said = scores(np.arange(300) % 3, sure)
    labels = np.array([np.random.default_rng(row).choice(3, p=each / each.sum()) for row, each in enumerate(said)])
    photos = photos_of(np.zeros((300, 4), np.float32), labels)
    assert sum(len(finding.photos) for finding in tested.check(photos, np.arange(300), said)) <= 1


def test_few_test_photos_are_not_judged():
    labels = np.arange(12) % 3
    photos = photos_of(np.zeros((12, 4), np.float32), labels)
    assert tested.check(photos, np.arange(12), scores((labels + 1) % 3, 8)) == []
    labels = np.arange(60) % 3
    said = scores(labels, 8)
    labels[0] = 1
    photos = photos_of(np.zeros((60, 4), np.float32), labels)
    assert tested.check(photos, np.arange(60), said) == []  # one alone
    assert tested.check(photos, np.zeros(0, np.int64), np.zeros((0, 3), np.float32)) == []
