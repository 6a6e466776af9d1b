"""What a head that was trained on the training photos, as `retrain` would do it, says of the test photos."""

import numpy as np

from retrain.data.split import Split
from retrain.doctor import heads
from retrain.doctor.heads import Job
from retrain.doctor.photos import Photos


def of_test_photos(photos: Photos) -> np.ndarray:
    """Return the class id that a head gives each test photo, int64 [N], -1 for all others.

    Raises:
        TrainingError: The training diverged.
    """
    training, testing = (np.flatnonzero(photos.splits == split) for split in (Split.TRAINING, Split.TESTING))
    predicted = np.full(len(photos.labels), -1)
    if len(training) and len(testing):
        (scores,) = heads.scores(photos, [Job(training, testing)])
        predicted[testing] = scores.argmax(axis=1)
    return predicted
