from pathlib import Path

from retrain.data.dataset import Dataset, Example
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.data.variants import Distorter, Variant, list_variants

DATASET = Dataset(
    Path("photos"),
    ("a", "b"),
    (
        Example("a/1.jpg", 0, Split.TRAINING),
        Example("a/2.jpg", 0, Split.TESTING),
        Example("b/1.jpg", 1, Split.TRAINING),
        Example("b/2.jpg", 1, Split.VALIDATION),
    ),
)


def test_without_copies_the_variants_are_the_photos():
    variants = list_variants(DATASET, copies=0)
    assert list(variants.rows) == [Variant(example.path) for example in DATASET.examples]
    assert variants.labels.tolist() == [0, 0, 1, 1]
    assert {split: members.tolist() for split, members in variants.members.items()} == {
        Split.TRAINING: [0, 2],
        Split.VALIDATION: [3],
        Split.TESTING: [1],
    }


def test_only_training_photos_have_copies():
    variants = list_variants(DATASET, copies=2)
    assert list(variants.rows) == [
        ("a/1.jpg", "0"),
        ("a/1.jpg", "1"),
        ("a/2.jpg", ""),
        ("b/1.jpg", "0"),
        ("b/1.jpg", "1"),
        ("b/2.jpg", ""),
    ]
    assert list(variants.rows[1:3]) == [("a/1.jpg", "1"), ("a/2.jpg", "")]
    assert variants.members[Split.TRAINING].tolist() == [0, 1, 3, 4]
    assert variants.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_copies_of_other_distortions_or_seeds_have_other_identities():
    distorters = [Distorter(Distortions(random_crop=crop), seed) for crop in (10, 20) for seed in (3, 4)]
    assert len({distorter.identity(copy) for distorter in distorters for copy in ("0", "1")}) == 8
    assert {distorter.identity("") for distorter in distorters} == {""}
