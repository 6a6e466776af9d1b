"""What heads think of photos that they were not trained on, for the checks that ask them."""

from collections.abc import Callable

import numpy as np

from retrain.data.dataset import groups_of
from retrain.doctor.photos import Photos
from retrain.training import cross_validation
from retrain.training.recipe import HeadRecipe, TrainingPlan

FOLDS = 5
_STEPS, _BATCH = 4000, 100


def out_of_fold(
    photos: Photos,
    labels: np.ndarray | None = None,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return probabilities float32 [N, C]: of each photo by a head that was trained on four fifths without it.

    Photos whose names say that they belong together (`data.split.group_of`) are in one fold. All photos take part,
    whatever their split, in the same folds whatever the labels. Where only one group is left to a head to learn from,
    or none, all classes are equally likely.

    Args:
        photos: The photos.
        labels: int64 [N], the class ids that heads are trained on, None for those of the photos.
        advance: Called with the heads done and the heads in all.

    Raises:
        TrainingError: A training diverged.
    """
    class_count = len(photos.dataset.class_names)
    groups = np.unique(groups_of(photos.dataset), return_inverse=True)[1]
    if int(groups.max(initial=0)) < 1:
        return np.full((len(photos.labels), class_count), 1 / class_count, np.float32)
    fold = cross_validation.assign_folds(photos.labels, groups, folds=FOLDS, seed=photos.seed)
    plan = TrainingPlan(_STEPS, _BATCH, validation_batch_size=1, eval_step_interval=_STEPS, seed=photos.seed)
    vectors = cross_validation.plain(photos.gather, photos.labels if labels is None else labels, class_count)
    return cross_validation.out_of_fold(vectors, fold, HeadRecipe(), plan, advance=advance)
