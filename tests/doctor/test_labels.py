"""Suspected labels: flipped ones are found, by no worse a rule than cleanlab's on the same folds."""

from dataclasses import replace

import numpy as np
import pytest
from doctor.photo_sets import gaussians, photos_of
from hypothesis import given
from hypothesis import strategies as st
from scripts.doctor.measures import by_cleanlab, confused, flipped, numbers, rates

from retrain.data.marks import Action, Mark
from retrain.doctor import labels as labels_check
from retrain.doctor import scoring, wrong_labels
from retrain.doctor.findings import Kind

INCEPTION = "models/inception_v3_2015_bottlenecks_flowers_1100.npz"


probabilities = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).dirichlet(np.ones(4) / 3, 80))


@given(probabilities)
def test_suspects_are_of_another_class_and_ranked(scores):
    labels = np.arange(len(scores)) % 4
    found = labels_check.suspects(scores, labels)
    assert (found.classes != labels[found.numbers]).all()
    assert (np.diff(found.doubt) <= 0).all()
    assert ((found.doubt > 0.1) & (found.doubt <= 1)).all()


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_probability_that_a_label_is_wrong_is_a_share_of_wrong_labels(share, seed):
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(5) / 8, 20_000)
    right = (scores.cumsum(axis=1) > rng.random(20_000)[:, None]).argmax(axis=1)
    changed = flipped(right, seed=seed, share=share)
    is_wrong = np.isin(np.arange(20_000), changed.wrong)
    flattened = scores**0.5 / (scores**0.5).sum(axis=1, keepdims=True)  # a head that is too little sure
    doubt = wrong_labels.wrongness(flattened.astype(np.float32), changed.labels)
    assert doubt.mean() == pytest.approx(share, abs=0.01)
    for lower, upper in ((0.1, 0.4), (0.4, 0.7), (0.7, 1)) if share else ():
        chosen = (doubt >= lower) & (doubt < upper)
        assert is_wrong[chosen].mean() == pytest.approx(doubt[chosen].mean(), abs=0.1)


@pytest.mark.slow
def test_a_class_often_called_another_is_found_although_heads_have_learnt_the_mistake():
    vectors, right = gaussians(1200, dimension=64, apart=0.6)
    changed = confused(right, seed=1, share=0.2, pairs=1)
    scores = scoring.out_of_fold(photos_of(vectors, changed.labels))
    found, precision = rates(labels_check.suspects(scores, changed.labels).numbers, changed.wrong)
    assert found > 0.7
    assert precision > 0.7


def test_the_likeliest_noise_is_that_of_a_fine_grid():
    rng = np.random.default_rng(0)
    own, other = rng.random(500) + 1e-3, rng.random(500) * 0.8
    shares = np.linspace(0, 0.5, 5001)
    likelihoods = [np.log((1 - share) * own + share * other).sum() for share in shares]
    assert wrong_labels.likeliest_noise(own, other) == pytest.approx(shares[np.argmax(likelihoods)], abs=1e-4)
    assert wrong_labels.likeliest_noise(own + 1, other) == 0
    assert wrong_labels.likeliest_noise(own / 100, other) == pytest.approx(0.5)


def test_heads_that_agree_with_all_labels_suspect_none():
    scores = np.full((60, 3), 0.05, np.float32)
    labels = np.arange(60) % 3
    scores[np.arange(60), labels] = 0.9
    assert len(labels_check.suspects(scores, labels).numbers) == 0


def test_classes_of_few_photos_neither_suspect_nor_are_suspected():
    labels = np.repeat([0, 1, 2], [30, 30, 9])
    scores = np.full((69, 3), 0.05, np.float32)
    scores[np.arange(69), labels] = 0.9
    scores[3], scores[65] = [0.02, 0.02, 0.96], [0.96, 0.02, 0.02]
    assert len(labels_check.suspects(scores, labels).numbers) == 0
    scores[3] = [0.02, 0.96, 0.02]
    assert labels_check.suspects(scores, labels).numbers.tolist() == [3]


def test_a_finding_names_the_class_that_heads_think_and_photos_of_it():
    vectors, right = gaussians(200)
    labels = right.copy()
    labels[[8, 21]] = [3, 2]
    photos = photos_of(vectors, labels, names=["ash", "birch", "cedar", "dill"])
    scores = scoring.out_of_fold(photos)
    (finding,) = labels_check.check(photos, scores)
    assert finding.kind == Kind.LABEL
    assert sorted(finding.photos) == ["cedar/21.jpg", "dill/8.jpg"]
    assert set(finding.marks) == {
        Mark("dill/8.jpg", Action.RELABEL, "ash"),
        Mark("cedar/21.jpg", Action.RELABEL, "birch"),
    }
    assert [row["path"] for row in finding.figures["suspects"]] == list(finding.photos)
    for row in finding.figures["suspects"]:
        assert len(row["neighbours"]) == 3
        assert all(path.startswith(row["looks_like"] + "/") for path in row["neighbours"])
    assert f"2 photos look like another class than their own, most of all {finding.photos[0]}" in finding.sentence


def test_only_labels_that_are_likelier_wrong_than_right_are_proposed_as_others():
    vectors, labels = gaussians(200, apart=0.7)  # classes that overlap
    labels[[8, 21, 50, 79, 110, 143, 171]] = [3, 2, 1, 0, 0, 1, 2]
    photos = photos_of(vectors, labels)
    (finding,) = labels_check.check(photos, scoring.out_of_fold(photos))
    doubts = {row["path"]: row["doubt"] for row in finding.figures["suspects"]}
    assert min(doubts.values()) < 0.5
    assert {mark.path for mark in finding.marks} == {path for path, doubt in doubts.items() if doubt > 0.5} != set()


def test_photos_of_one_group_are_scored_by_heads_that_saw_none_of_it():
    vectors, labels = gaussians(80)
    photos = photos_of(vectors, labels)
    examples = [
        replace(each, path=f"class_3/a_nohash_{number}.jpg") if each.class_id == 3 else each
        for number, each in enumerate(photos.dataset.examples)
    ]
    grouped = replace(photos, dataset=replace(photos.dataset, examples=tuple(examples)))
    assert scoring.out_of_fold(photos)[labels == 3, 3].min() > 0.5
    assert scoring.out_of_fold(grouped)[labels == 3, 3].max() < 0.1


def test_a_single_group_teaches_nothing():
    photos = photos_of(*gaussians(1, classes=1), names=["ash", "birch"])
    assert scoring.out_of_fold(photos).tolist() == [[0.5, 0.5]]


@pytest.mark.slow
def test_of_labels_flipped_among_real_photos_most_are_found_and_more_exactly_than_by_cleanlab(data):
    with np.load(data / INCEPTION) as arrays:  # a quarter of the features: trained in a quarter of the time
        vectors, names = arrays["bottleneck"][:, ::4].copy(), [path.split("/")[0] for path in arrays["path"].tolist()]
    right = np.unique(names, return_inverse=True)[1].astype(np.int64)
    changed = flipped(right, seed=0)
    photos = photos_of(vectors, changed.labels)
    scores = scoring.out_of_fold(photos)
    found, precision = rates(numbers(photos, labels_check.check(photos, scores)), changed.wrong)
    assert found >= 0.8
    assert precision >= 0.51
    theirs = rates(by_cleanlab(changed.labels, scores), changed.wrong)
    assert 2 / (1 / found + 1 / precision) >= 2 / (1 / theirs[0] + 1 / theirs[1])
    clean = photos_of(vectors, right)
    assert len(labels_check.suspects(scoring.out_of_fold(clean), right).numbers) <= 8  # cleanlab names 30


def test_copies_in_two_classes_are_taken_for_no_wrong_label_of_either():
    photos = photos_of(np.ones((40, 8), np.float32), np.arange(40) % 2)
    scores = np.eye(2, dtype=np.float32)[1 - photos.labels]
    assert len(labels_check.check(photos, scores)[0].photos) == 40
    assert labels_check.check(replace(photos, keys=[b"the same"] * 40), scores) == []
