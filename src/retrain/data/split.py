"""Which photo is for training, validation or testing: a pure hash of its name."""

import hashlib
import re
import unicodedata
from enum import StrEnum

from retrain.errors import UsageError

_HASH_BUCKETS = 2**27  # the original's MAX_NUM_IMAGES_PER_CLASS + 1


class Split(StrEnum):
    """Which of the three jobs an image has."""

    TRAINING = "training"
    VALIDATION = "validation"
    TESTING = "testing"


def assign_split(key: str, *, validation_percentage: float, testing_percentage: float) -> Split:
    """Return the split that owns `key`, the same on every machine and every run.

    The name is hashed, not drawn at random: adding images never moves an old one, so last week's test image
    cannot become a training image today. The formula is that of the original `retrain.py`, except that the
    key is relative to the image folder, so that moving the folder changes nothing.

    Args:
        key: Path relative to the image folder, "/"-separated. Text from "_nohash_" on is ignored, which keeps
            near-duplicates in one split.
        validation_percentage: Share held out for tuning, 0 to 100.
        testing_percentage: Share held out for the final report, 0 to 100.
    """
    percentage = hash_percentage(key)
    if percentage < validation_percentage:
        return Split.VALIDATION
    if percentage < validation_percentage + testing_percentage:
        return Split.TESTING
    return Split.TRAINING


def hash_percentage(key: str) -> float:
    """Return where `key` falls between 0 and 100: its SHA-1, as the original `retrain.py` computes it."""
    grouped = re.sub(r"_nohash_.*$", "", key, flags=re.DOTALL)
    # macOS hands out decomposed file names and Linux composed ones: the same photo must hash alike on both.
    text = unicodedata.normalize("NFC", grouped).encode("utf-8", "surrogateescape")
    return int(hashlib.sha1(text).hexdigest(), 16) % _HASH_BUCKETS * (100.0 / (_HASH_BUCKETS - 1))


def check_percentages(validation: float, testing: float) -> None:
    """Refuse percentages that are negative or leave nothing to train on.

    Raises:
        UsageError: Names the flag and its value.
    """
    for flag, value in (("--validation_percentage", validation), ("--testing_percentage", testing)):
        if not 0 <= value <= 100:
            raise UsageError(f"{flag} is {value:g}; it must lie between 0 and 100.")
    if validation + testing >= 100:
        raise UsageError(
            f"--validation_percentage {validation:g} and --testing_percentage {testing:g} leave no training data; "
            f"together they must stay below 100."
        )
