"""Cross-validation: every photo is scored by a head that was trained without it; arrays in, arrays out.

Stone, "Cross-validatory choice and assessment of statistical predictions", JRSS B 36, 1974; folds of equal shares of
each class: Kohavi, "A study of cross-validation and bootstrap for accuracy estimation and model selection", IJCAI 1995.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from retrain import workers
from retrain.bottlenecks.reading import Gather
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

_SCORED_AT_ONCE = 4096


@dataclass(frozen=True)
class PhotoBottlenecks:
    """The bottlenecks of N photos of C classes: those that are scored, and those that are trained on.

    `labels` int64 [N] are class ids. `gather` reads bottlenecks by their indices: `scored` int64 [N] are those of the
    photos themselves, `trained` int64 [N, K] those of each photo's K distorted copies, or again of itself with K = 1.
    """

    gather: Gather
    labels: np.ndarray
    scored: np.ndarray
    trained: np.ndarray
    class_count: int


def plain(gather: Gather, labels: np.ndarray, class_count: int) -> PhotoBottlenecks:
    """Return photos that are trained on as they are; `gather` reads them by their numbers, 0 to N - 1."""
    rows = np.arange(len(labels))
    return PhotoBottlenecks(gather, labels, rows, rows[:, None], class_count)


def assign_folds(labels: np.ndarray, groups: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each photo, int64 [N] in [0, folds), which follows from the arguments alone.

    Photos of one group are in one fold. Each group, the largest first, joins the fold that has the smallest share of
    the group's classes, of equal ones the smallest. So, where no photos are grouped, the folds' counts differ by 1 at
    most, in each class and in all. With fewer groups than folds, there are as many folds as groups.

    Args:
        labels: int64 [N], class ids.
        groups: int64 [N], any numbers, the same for photos that belong together.
        folds: How many.
        seed: Decides the order of groups of one size and class.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
    classes = [Counter(labels[photos].tolist()) for photos in members]
    shuffled = np.random.default_rng(seed).permutation(len(members)).tolist()
    class_sizes = np.bincount(labels).tolist()
    filled = [[0] * len(class_sizes) for _ in range(min(folds, len(members)))]
    sizes = [0] * len(filled)
    fold = np.empty(len(labels), np.int64)
    for group in sorted(shuffled, key=lambda group: (-len(members[group]), min(classes[group]))):
        share = [(each, count / class_sizes[each]) for each, count in classes[group].items()]
        fullness = [
            (sum(have[each] * part for each, part in share), size) for have, size in zip(filled, sizes, strict=True)
        ]
        chosen = fullness.index(min(fullness))
        for each, count in classes[group].items():
            filled[chosen][each] += count
        sizes[chosen] += len(members[group])
        fold[members[group]] = chosen
    return fold


def out_of_fold(
    photos: PhotoBottlenecks,
    fold: np.ndarray,
    recipe: HeadRecipe,
    plan: TrainingPlan,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return probabilities float32 [N, C]: of each photo by the head that was trained on all folds but its own.

    Everything that is learnt, the standardisation too, comes from the other folds. Nothing is chosen by the fold that
    is scored: each head has the weights after the plan's last step, and its patience is passed over.

    Args:
        photos: Bottlenecks and labels.
        fold: int64 [N], from `assign_folds`.
        recipe: The head and its optimizer.
        plan: Steps, batch and seed, the same for every head.
        advance: Called with the folds done and the folds in all.

    Raises:
        TrainingError: A training diverged.
    """
    plan = replace(plan, eval_step_interval=plan.steps, patience=None, checkpoint_every=0)
    labels = np.zeros(1 + max(int(photos.scored.max()), int(photos.trained.max())), np.int64)
    labels[photos.trained] = photos.labels[:, None]
    probabilities = np.empty((len(photos.labels), photos.class_count), np.float32)
    numbers = np.unique(fold).tolist()

    def score(number: int) -> None:
        training = photos.trained[fold != number].ravel()
        samples = sampling.sample_training(labels, training, np.zeros(0, np.int64), plan)
        data = TrainingData(photos.gather, labels, training, photos.class_count)
        head = head_training.train(data, samples, recipe, plan).head
        held_out = np.flatnonzero(fold == number)
        for start in range(0, len(held_out), _SCORED_AT_ONCE):
            rows = held_out[start : start + _SCORED_AT_ONCE]
            probabilities[rows] = head.probabilities(photos.gather(photos.scored[rows]))

    weights = photos.gather(photos.scored[:1]).shape[1] * photos.class_count
    # TensorFlow has threads of its own.
    threads = workers.cores() if head_training.needs_no_tensorflow(recipe, weights) else 1
    folds = workers.map_in_order(lambda: score, numbers, threads=min(threads, len(numbers)), waiting=len(numbers))
    for done, _ in enumerate(folds, 1):
        advance(done, len(numbers))
    return probabilities
