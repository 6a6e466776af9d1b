"""Learning curves, and what they say of more photos."""

import dataclasses

import numpy as np
import pytest
from doctor.photo_sets import gaussians, photos_of

from retrain.doctor import curves, families, growing
from retrain.doctor.curves import Measured
from retrain.doctor.findings import Kind
from retrain.evaluation.metrics import Interval


def measured_on(count, accuracy, *, seed=0):
    """Return what would be measured on some photos if heads were as accurate as a function of their photos says."""
    sizes = 0.8 * count * np.array(curves.SHARES)
    luck = np.random.default_rng(seed).random(count)  # a photo that is easy for one head is easy for the others
    return Measured(sizes, (luck < accuracy(sizes)[:, None]).astype(float), np.arange(count))


@pytest.mark.parametrize("accuracy", [lambda n: 0.97 - 2.5 * n**-0.5, lambda n: 0.3 + 0.08 * np.log(n)])
def test_the_interval_holds_for_curves_that_are_known(accuracy):
    held = 0
    for seed in range(20):
        measured = measured_on(600, accuracy, seed=seed)
        said = curves.outlook(measured, seed=0)
        assert said.twice.low <= said.twice.high <= 1
        held += said.twice.low <= accuracy(2 * measured.sizes[-1:])[0] <= said.twice.high
    assert held >= 14  # of 20, where 8 of 10 are meant to


def test_a_curve_that_is_flat_promises_nothing():
    said = curves.outlook(measured_on(600, lambda n: np.full(len(n), 0.8)), seed=0)
    assert said.gain.high < 0.005


def test_a_class_has_an_interval_of_its_own():
    measured = measured_on(600, lambda n: 0.97 - 2.5 * n**-0.5)
    right = measured.right.copy()
    right[:, :100] = 1
    perfect = curves.outlook(dataclasses.replace(measured, right=right), seed=0, among=np.arange(600) < 100)
    assert perfect.now == perfect.twice.low == perfect.twice.high == 1


def test_each_photo_is_scored_by_heads_that_grow_and_have_not_seen_it():
    labels = np.arange(90) % 3
    held_out = np.arange(90) < 18
    jobs = curves._jobs(labels, held_out, np.random.default_rng(0))
    for smaller, larger in zip(jobs, jobs[1:], strict=False):
        assert set(smaller.trained.tolist()) < set(larger.trained.tolist())
    for job, share in zip(jobs, curves.SHARES, strict=True):
        assert not held_out[job.trained].any()
        assert np.bincount(labels[job.trained]).tolist() == [np.ceil(share * 24)] * 3
        assert job.scored.tolist() == list(range(18))


@pytest.mark.slow
def test_more_photos_are_asked_for_where_they_help_and_not_where_all_is_right():
    vectors, labels = gaussians(200, dimension=64, apart=0.25)
    (found,) = growing.check(photos_of(vectors, labels))
    assert found.kind is Kind.TOO_FEW
    assert found.severity <= 0.3
    low, high = found.figures["with_twice_the_photos"]
    assert found.figures["accuracy"] < low <= high
    assert set(found.figures["classes"]) == {"class_0", "class_1", "class_2", "class_3"}
    vectors, labels = gaussians(200, dimension=64, apart=2)
    assert growing.check(photos_of(vectors, labels)) == []


def test_an_interval_that_begins_below_the_accuracy_is_no_promise_of_a_fall():
    said = curves.Outlook(0.833, Interval(0.815, 0.969), Interval(0.02, 0.1))
    assert curves._rise(said) == "rise, up to 96.9%"
    assert curves._rise(dataclasses.replace(said, now=0.8)) == "be between 81.5% and 96.9%"


def test_too_few_photos_for_a_curve_say_nothing():
    vectors, labels = gaussians(36, apart=0.2)
    assert growing.check(photos_of(vectors, labels)) == []


def test_photos_that_all_belong_together_say_nothing():
    vectors, labels = gaussians(80, classes=2, apart=0.2)
    photos = photos_of(vectors, labels)
    together = dict.fromkeys((example.path for example in photos.dataset.examples), "one session")
    assert (
        growing.check(dataclasses.replace(photos, dataset=dataclasses.replace(photos.dataset, groups=together))) == []
    )


def test_families_are_those_of_the_paper():
    assert set(families.FAMILIES) == {"power law", "logarithm", "arctangent", "algebraic root"}
