"""Suspected labels: flipped ones are found, by no worse a rule than cleanlab's on the same folds."""

from dataclasses import replace

import numpy as np
from doctor.photo_sets import gaussians, photos_of
from hypothesis import given
from hypothesis import strategies as st

from retrain.data.marks import Action, Mark
from retrain.doctor import labels as labels_check
from retrain.doctor import scoring
from retrain.doctor.findings import Kind
from retrain.doctor.graph import graph_of

INCEPTION = "models/inception_v3_2015_bottlenecks_flowers_1100.npz"


def flipped(labels, *, seed, share=0.05):
    """Return class ids of which a share is another at random, and which ones are."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    changed[chosen] = (labels[chosen] + rng.integers(1, labels.max() + 1, len(chosen))) % (labels.max() + 1)
    return changed, set(chosen.tolist())


def rates(found, wrong):
    """Return the share of the wrong ones that is found, and the share of the found ones that is wrong."""
    hits = len(wrong & set(found))
    return hits / len(wrong), hits / max(1, len(found))


def by_cleanlab(labels, scores):
    """Return the numbers of the photos that cleanlab suspects, as it does by default."""
    from cleanlab.filter import find_label_issues

    return np.flatnonzero(find_label_issues(labels, scores, n_jobs=1)).tolist()


probabilities = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).dirichlet(np.ones(4) / 3, 80))


@given(probabilities)
def test_the_thresholds_are_cleanlabs(scores):
    from cleanlab.count import get_confident_thresholds

    labels = np.arange(len(scores)) % 4
    thought = labels_check.confident_classes(scores, labels)
    sure = scores >= get_confident_thresholds(labels, scores) - 1e-6
    assert np.array_equal(thought >= 0, sure.any(axis=1))
    for number in np.flatnonzero(thought >= 0):
        assert scores[number, thought[number]] == scores[number, sure[number]].max()


@given(probabilities)
def test_suspects_are_of_another_class_and_ranked(scores):
    labels = np.arange(len(scores)) % 4
    found = labels_check.suspects(scores, labels)
    assert (found.classes != labels[found.numbers]).all()
    margins = scores[found.numbers, found.classes] - scores[found.numbers, labels[found.numbers]]
    assert (np.diff(margins) <= 0).all()


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
    (finding,) = labels_check.check(photos, scores, graph_of(photos.gather, 200))
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
    again = labels_check.check(photos, scoring.out_of_fold(photos), graph_of(photos.gather, 200))
    assert again == [finding]


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
