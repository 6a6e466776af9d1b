"""Everything that heads on parts of the photos say of more of them."""

import numpy as np

from retrain.data.dataset import groups_of
from retrain.doctor import curves, next_photos
from retrain.doctor.findings import Finding
from retrain.doctor.photos import FOLDS, Photos

_LEAST = 10  # photos of each class, for a tenth of which to be one


def check(photos: Photos) -> list[Finding]:
    """Return what twice the photos would do, and of which class more would do most, if that is sure.

    Nothing of photos that form fewer groups than there are folds, or where a class has fewer than ten.

    Raises:
        TrainingError: A training diverged.
    """
    counts = np.bincount(photos.labels, minlength=len(photos.dataset.class_names))
    if counts.min() < _LEAST or len(set(groups_of(photos.dataset))) < FOLDS:
        return []
    measured = curves.measure(photos)
    return [*curves.check(photos, measured), *next_photos.check(photos, measured)]
