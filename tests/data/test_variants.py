from pathlib import Path

from retrain.data import variants
from retrain.data.dataset import Dataset, Example
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.data.variants import Distorter

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
COPIER = Distorter(Distortions(random_crop=10), 3)


def test_without_copies_every_photo_is_shown_as_it_is():
    shown = variants.list_variants(DATASET, COPIER, copies=0)
    assert list(shown.names) == [example.path for example in DATASET.examples]
    assert shown.labels.tolist() == [0, 0, 1, 1]
    assert {split: members.tolist() for split, members in shown.members.items()} == {
        Split.TRAINING: [0, 2],
        Split.VALIDATION: [3],
        Split.TESTING: [1],
    }


def test_only_training_photos_are_copied_and_copies_know_their_photo():
    shown = variants.list_variants(DATASET, COPIER, copies=2)
    assert [variants.photo_of(name) for name in shown.names] == ["a/1.jpg"] * 2 + ["a/2.jpg"] + ["b/1.jpg"] * 2 + [
        "b/2.jpg"
    ]
    assert [bool(variants.copy_of(name)) for name in shown.names] == [True, True, False, True, True, False]
    assert len(set(shown.names)) == 6
    assert shown.members[Split.TRAINING].tolist() == [0, 1, 3, 4]
    assert shown.labels.tolist() == [0, 0, 0, 1, 1, 1]
