"""Everything that heads on parts of the photos say of more of them."""

import numpy as np

from retrain.doctor import curves, next_photos
from retrain.doctor.findings import Finding
from retrain.doctor.photos import Photos

_LEAST = 10  # photos of each class, for a tenth of which to be one


def check(photos: Photos) -> list[Finding]:
    """Return what twice the photos would do, and of which class more would do most, if that is sure.

    Raises:
        TrainingError: A training diverged.
    """
    if np.bincount(photos.labels, minlength=len(photos.dataset.class_names)).min() < _LEAST:
        return []
    measured = curves.measure(photos)
    return [*curves.check(photos, measured), *next_photos.check(photos, measured)]
