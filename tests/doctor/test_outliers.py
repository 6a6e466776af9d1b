"""Outliers: far from their class, whatever its spread, and named by nothing else."""

import numpy as np
import pytest
from doctor.photo_sets import gaussians, photos_of

from retrain.data.marks import Action, Mark
from retrain.doctor import outliers
from retrain.doctor.findings import Kind


def found_in(vectors, labels, **options):
    return outliers.check(photos_of(vectors, labels), **options)


def test_what_lies_apart_is_found_the_farthest_first():
    vectors, labels = gaussians(400, dimension=256)
    rng = np.random.default_rng(1)
    vectors[7] = rng.normal(size=256)
    vectors[90] += 2 * rng.normal(size=256)
    (finding,) = found_in(vectors, labels)
    assert list(finding.photos) == ["class_3/7.jpg", "class_2/90.jpg"]
    assert finding.kind == Kind.OUTLIER
    assert list(finding.marks) == [Mark(path, Action.REMOVE) for path in finding.photos]
    assert [row["class"] for row in finding.figures["outliers"]] == ["class_3", "class_2"]
    assert finding.sentence.startswith("2 photos are unlike the others of their class, first of all class_3/7.jpg.")


@pytest.mark.parametrize("seed", range(5))
def test_hardly_any_photo_of_a_class_that_is_spread_as_usual_is_an_outlier(seed):
    findings = found_in(*gaussians(1000, dimension=256, seed=seed))
    assert sum(len(each.photos) for each in findings) <= 4


def test_a_class_is_measured_by_its_own_spread():
    vectors, labels = gaussians(400, dimension=256, classes=2)
    vectors[labels == 1] += 4 * np.random.default_rng(2).normal(size=(200, 256)).astype(np.float32)
    assert found_in(vectors, labels) == []


def test_what_another_finding_names_is_left_out():
    vectors, labels = gaussians(400, dimension=256)
    vectors[7] = np.random.default_rng(1).normal(size=256)
    (finding,) = found_in(vectors, labels)
    assert list(finding.photos) == ["class_3/7.jpg"]
    assert "1 photo is unlike the others of its class: class_3/7.jpg." in finding.sentence
    assert found_in(vectors, labels, known={"class_3/7.jpg"}) == []


def test_distances_are_those_of_the_nearest_tenth_of_the_others():
    vectors, labels = gaussians(200, classes=2)
    members = np.flatnonzero(labels == 1)
    found = outliers.own_distances(photos_of(vectors, labels), members)
    unit = vectors[members] / np.linalg.norm(vectors[members], axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    assert np.allclose(found, 1 - np.sort(cosines, axis=1)[:, -10:].mean(axis=1), atol=1e-5)


def test_strange_photos_that_are_alike_do_not_hide_each_other_in_a_large_class():
    vectors, labels = gaussians(2400, dimension=256, classes=2)
    strange = np.arange(8) * 250
    vectors[strange] = 2 * np.random.default_rng(5).normal(size=256) + vectors[strange] / 10
    (finding,) = found_in(vectors, labels)
    assert sorted(finding.photos[:8]) == sorted(f"class_0/{number}.jpg" for number in strange)
    assert len(finding.photos) <= 12
    assert found_in(vectors, labels) == [finding]


def test_small_classes_and_copies_are_not_judged():
    vectors, labels = gaussians(40, classes=4)  # ten of each
    vectors[0] *= 100
    assert found_in(vectors, labels) == []
    assert found_in(np.ones((60, 8), np.float32), np.arange(60) % 2) == []
    assert found_in(*gaussians(3, classes=3)) == []
