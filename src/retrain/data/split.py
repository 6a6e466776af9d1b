"""Which photo is for training, validation or testing: a pure hash of its name."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from retrain.errors import UsageError

if TYPE_CHECKING:
    from retrain.data.dataset import Dataset

_HASH_BUCKETS = 2**27  # the original's MAX_NUM_IMAGES_PER_CLASS + 1


class Split(StrEnum):
    """Which of the three jobs an image has."""

    TRAINING = "training"
    VALIDATION = "validation"
    TESTING = "testing"


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How images are split: the percentages held out for validation and for testing, 0 to 100.

    Raises:
        UsageError: Percentages that are out of range or leave nothing to train on.
    """

    validation: float = 10
    testing: float = 10

    def __post_init__(self) -> None:
        for flag, value in (("--validation_percentage", self.validation), ("--testing_percentage", self.testing)):
            if not 0 <= value <= 100:
                raise UsageError(f"{flag} is {value:g}; it must lie between 0 and 100.")
        if self.validation + self.testing >= 100:
            raise UsageError(
                f"--validation_percentage {self.validation:g} and --testing_percentage {self.testing:g} leave no "
                f"training data; together they must stay below 100."
            )

    def assign(self, key: str) -> Split:
        """Return the split that owns `key`, the same on every machine and every run.

        The name is hashed, not drawn at random: adding images never moves an old one, so last week's test image
        cannot become a training image today. The formula is that of the original `retrain.py`, except that the
        key is relative to the image folder, so that moving the folder changes nothing.

        Args:
            key: Path relative to the image folder, "/"-separated. Text from "_nohash_" on is ignored, which keeps
                near-duplicates in one split.
        """
        percentage = hash_percentage(key)
        if percentage < self.validation:
            return Split.VALIDATION
        if percentage < self.validation + self.testing:
            return Split.TESTING
        return Split.TRAINING


DEFAULT_SPLIT = SplitRule()


def group_of(key: str) -> str:
    """Return what near-duplicates have in common, which stay in one split: a key up to "_nohash_"."""
    # macOS lists file names decomposed and Linux composed: the same photo must hash alike on both.
    return unicodedata.normalize("NFC", re.sub(r"_nohash_.*$", "", key, flags=re.DOTALL))


def hash_percentage(key: str) -> float:
    """Return where `key` falls between 0 and 100: its SHA-1, as the original `retrain.py` computes it."""
    text = group_of(key).encode("utf-8", "surrogateescape")
    return int(hashlib.sha1(text).hexdigest(), 16) % _HASH_BUCKETS * (100.0 / (_HASH_BUCKETS - 1))


def nearest_to_training(keys: Iterable[str]) -> str:
    """Return the key with the highest hash: the first to join the training images if more images are trained on."""
    return max(keys, key=hash_percentage)


def is_ready_made(dataset: "Dataset") -> bool:
    """Return whether folders gave the split of a data set: its paths begin with those and not with class names."""
    ends = (dataset.examples[0], dataset.examples[-1])  # of two classes, of which one may be called "train"
    return not all(example.path.startswith(f"{dataset.class_names[example.class_id]}/") for example in ends)
