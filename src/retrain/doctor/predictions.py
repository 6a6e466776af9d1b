"""What a head says of the test photos that was trained on the training photos, like that of `retrain`."""

import numpy as np

from retrain.data.split import Split
from retrain.doctor.photos import Photos
from retrain.errors import TrainingError
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

_STEPS, _BATCH = 1000, 100  # a second or two; more steps hardly change what is right
_AT_ONCE = 4096


def of_test_photos(photos: Photos) -> np.ndarray | None:
    """Return the class id that a head gives each test photo, int64 [N], -1 for all others.

    None where it would be too large for a look in passing, or its training fails.
    """
    splits = np.array([example.split for example in photos.dataset.examples])
    training, testing = (np.flatnonzero(splits == split) for split in (Split.TRAINING, Split.TESTING))
    predicted = np.full(len(splits), -1)
    if not len(training) or not len(testing):
        return predicted
    recipe, classes = HeadRecipe(), len(photos.dataset.class_names)
    if not head_training.needs_no_tensorflow(recipe, photos.gather(training[:1]).shape[1] * classes):
        return None
    plan = TrainingPlan(_STEPS, _BATCH, validation_batch_size=1, eval_step_interval=_STEPS, seed=photos.seed)
    samples = sampling.sample_training(photos.labels, training, np.zeros(0, np.int64), plan)
    try:
        head = head_training.train(TrainingData(photos.gather, photos.labels, training, classes), samples, recipe, plan)
    except TrainingError:
        return None
    for start in range(0, len(testing), _AT_ONCE):
        rows = testing[start : start + _AT_ONCE]
        predicted[rows] = head.head.logits(photos.gather(rows)).argmax(axis=1)
    return predicted
