"""Everything about photos that are there more than once."""

from retrain.doctor import copies, duplicates, leakage, predictions
from retrain.doctor.findings import Finding
from retrain.doctor.photos import Photos


def check(photos: Photos) -> list[Finding]:
    """Return findings about copies: leaked ones, with what they do to the test accuracy, and superfluous ones."""
    found = copies.find(photos)
    leaked = leakage.check(photos, found, lambda: predictions.of_test_photos(photos))
    return [*leaked, *duplicates.check(photos, found)]
