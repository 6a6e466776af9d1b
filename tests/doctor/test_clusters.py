"""Classes that are two, and those that are one."""

import numpy as np
from doctor.photo_sets import gaussians, photos_of

from retrain.doctor import clusters
from retrain.doctor.findings import Kind


def test_a_class_of_two_kinds_is_found_with_photos_of_both():
    vectors, kinds = gaussians(400, classes=4, apart=2)
    labels = np.array([0, 0, 1, 2])[kinds]
    (found,) = clusters.check(photos_of(vectors, labels))
    assert found.kind is Kind.SPLIT_CLASS
    assert found.figures["class"] == "class_0"
    assert sorted(found.figures["sizes"]) == [100, 100]
    shown = [
        {int(kinds[int(path.split("/")[1].split(".")[0])]) for path in paths} for paths in found.figures["examples"]
    ]
    assert sorted(shown, key=min) == [{0}, {1}]
    assert found.photos == [*found.figures["examples"][0], *found.figures["examples"][1]]


def test_classes_of_one_kind_are_left_alone():
    for seed in range(5):
        vectors, labels = gaussians(400, seed=seed)
        assert clusters.check(photos_of(vectors, labels, seed=seed)) == []


def test_a_few_outliers_are_no_class():
    vectors, labels = gaussians(400, classes=2, apart=2)
    vectors[:10] += 50
    assert clusters.check(photos_of(vectors, labels)) == []


def test_a_class_too_small_for_halves_of_it_says_nothing():
    vectors, kinds = gaussians(40, classes=4, apart=5)
    assert clusters.check(photos_of(vectors, kinds // 2)) == []


def test_equal_vectors_are_one_cluster():
    vectors = np.ones((200, 8), np.float32)
    assert clusters.check(photos_of(vectors, np.arange(200) % 2)) == []


def test_the_same_photos_and_seed_give_the_same_findings():
    vectors, kinds = gaussians(2400, classes=3, apart=2)  # more of a class than are looked at
    first, again = (clusters.check(photos_of(vectors, kinds // 2)) for _ in range(2))
    assert first == again
    assert first
