"""Of which class more photos would do most."""

import json

import numpy as np
import pytest
from doctor.photo_sets import gaussians, photos_of

from retrain.doctor import curves, growing, next_photos
from retrain.doctor.findings import Kind
from retrain.doctor.next_photos import Effects

NAMES = ("easy", "hard", "plain")
SIZES = 0.8 * np.array(curves.SHARES)


def one_hard_class(*, seed=0):
    """Return 300 photos each of two classes that are far apart, and 60 of one that lies between them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [300, 60, 300])
    centres = rng.normal(size=(3, 48))
    centres[1] = (centres[0] + centres[2]) / 2 + 0.3 * rng.normal(size=48)
    vectors = centres[labels] + 1.2 * rng.normal(size=(len(labels), 48))
    return photos_of(vectors.astype(np.float32), labels, names=NAMES, seed=seed)


def advice_findings(photos):
    return [found for found in growing.check(photos) if "photograph" in found.figures]


@pytest.mark.slow
def test_a_hard_class_of_few_photos_comes_next():
    (found,) = advice_findings(one_hard_class())
    assert found.kind is Kind.TOO_FEW
    assert found.severity <= 0.3
    named, other = found.figures["photograph"], found.figures["rather_than"]
    assert named["class"] == "hard"
    assert other["class"] in ("easy", "plain")
    assert other["photos"] in (2 * named["photos"], 5 * named["photos"])
    assert found.sentence.startswith(f"{named['photos']} more photos of 'hard' would do more than {other['photos']} ")
    assert "photograph 'hard' next" in found.sentence
    assert 0 < named["gain"][0] < named["gain"][1]
    assert set(found.figures["gain_of_twice_the_photos"]) == set(NAMES)
    json.dumps(found.figures, allow_nan=False)


@pytest.mark.slow
def test_classes_that_are_alike_get_no_advice():
    for seed in range(2):
        vectors, labels = gaussians(240, dimension=48, classes=3, apart=0.35, seed=seed)
        photos = photos_of(vectors, labels, seed=seed)
        assert curves.measure(photos).right[-1].mean() < 0.95
        assert advice_findings(photos) == []


def test_nothing_is_said_where_all_is_right():
    vectors, labels = gaussians(80, classes=2, apart=2)
    photos = photos_of(vectors, labels)
    measured = curves.measure(photos)
    assert measured.right[-1].all()
    assert next_photos.check(photos, measured) == []


def effects_of(*halves, counts=(200, 200, 200), error=0.001):
    rng = np.random.default_rng(0)
    known = 0.9 - 0.1 * SIZES**-0.5 + 0.002 * rng.normal(size=(200, len(SIZES)))
    drawn = np.array(halves) + error * rng.normal(size=(800, len(halves)))
    return Effects(np.arange(len(halves)), np.array(counts), drawn, known, SIZES)


def test_the_class_whose_photos_do_most_is_named_beside_the_one_whose_do_least():
    advice = next_photos.advise(effects_of(0.08, 0.03, 0.003))
    assert (advice.best, advice.more) == (0, 40)
    assert (advice.other, advice.more_of_other) == (2, 200)


def test_a_photo_of_a_small_class_does_more_than_one_of_a_large_class():
    advice = next_photos.advise(effects_of(0.02, 0.02, 0.02, counts=(200, 20, 200)))
    assert (advice.best, advice.more, advice.more_of_other) == (1, 20, 100)


def test_no_more_photos_are_proposed_than_a_class_has():
    advice = next_photos.advise(effects_of(0.05, 0.001, counts=(12, 400)))
    assert (advice.more, advice.more_of_other) == (10, 50)


@pytest.mark.parametrize("halves", [(0.03, 0.03, 0.03), (-0.05, -0.01, -0.05), (0.004, 0.0, 0.0)])
def test_nothing_is_said_where_classes_do_not_differ_or_nothing_helps(halves):
    assert next_photos.advise(effects_of(*halves)) is None


def test_nothing_is_said_where_it_depends_on_the_photos_that_a_head_has_seen():
    assert next_photos.advise(effects_of(0.08, 0.03, 0.003, error=0.05)) is None


def test_of_many_classes_the_worst_and_some_of_the_best_are_looked_at():
    labels = np.repeat(np.arange(40), 100)
    right = (np.arange(4000) % 100 >= np.repeat(np.arange(40), 100)).astype(float)  # class n is wrong n times
    chosen = next_photos._chosen(right, labels)
    assert chosen.tolist() == [*range(4), *range(32, 40)]


def test_half_of_the_photos_of_classes_are_left_out_and_all_of_others_stay():
    labels = np.arange(90) % 3
    rows = np.arange(60)
    left = next_photos._without(rows, labels, np.array([True, False, True]), np.random.default_rng(0))
    assert np.bincount(labels[left]).tolist() == [10, 20, 10]
    assert set(left.tolist()) < set(rows.tolist())
