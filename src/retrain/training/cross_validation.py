"""Cross-validation: every photo is scored by a head that was trained without it; arrays in, arrays out.

Stone, "Cross-validatory choice and assessment of statistical predictions", JRSS B 36, 1974; folds of equal shares of
each class: Kohavi, "A study of cross-validation and bootstrap for accuracy estimation and model selection", IJCAI 1995.
"""

from collections import Counter
from collections.abc import Callable, Mapping
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
    _, group_of, members = np.unique(groups, return_inverse=True, return_counts=True)
    photos, starts = np.argsort(group_of, kind="stable"), np.cumsum(members) - members
    lowest = np.minimum.reduceat(labels[photos], starts) if len(starts) else starts
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.lexsort((lowest[order], -members[order]))]
    filling = Filling(np.bincount(labels), folds=min(folds, len(members)))
    fold = np.empty(len(labels), np.int64)
    several = int((members > 1).sum())
    for group in order[:several].tolist():
        of_group = photos[starts[group] : starts[group] + members[group]]
        fold[of_group] = filling.add(Counter(labels[of_group].tolist()))
    alone = photos[starts[order[several:]]]
    for class_id in np.unique(labels[alone]).tolist():
        of_class = alone[labels[alone] == class_id]
        fold[of_class] = filling.deal(class_id, len(of_class))
    return fold


class Filling:
    """How many photos are in each fold, of each class and in all."""

    def __init__(self, class_sizes: np.ndarray, *, folds: int) -> None:
        self._class_sizes = class_sizes.tolist()
        self._filled = [[0] * len(class_sizes) for _ in range(folds)]
        self._sizes = [0] * folds

    def add(self, classes: Mapping[int, int]) -> int:
        """Add a group with so many photos of some classes, and return its fold."""
        share = [(each, count / self._class_sizes[each]) for each, count in classes.items()]
        fullness = [
            (sum(have[each] * part for each, part in share), size)
            for have, size in zip(self._filled, self._sizes, strict=True)
        ]
        chosen = fullness.index(min(fullness))
        for each, count in classes.items():
            self._filled[chosen][each] += count
            self._sizes[chosen] += count
        return chosen

    def deal(self, class_id: int, count: int) -> np.ndarray:
        """Add photos of a class, each a group of its own, and return their folds, int64 [n]."""
        dealt: list[int] = []
        while len(dealt) < count and len({have[class_id] for have in self._filled}) > 1:
            dealt.append(self.add({class_id: 1}))
        # Once all folds have as many, they come in turns.
        turns = sorted(range(len(self._sizes)), key=self._sizes.__getitem__)
        rest = np.resize(np.array(turns, np.int64), count - len(dealt))
        for number, more in enumerate(np.bincount(rest, minlength=len(turns)).tolist()):
            self._filled[number][class_id] += more
            self._sizes[number] += more
        return np.concatenate([np.array(dealt, np.int64), rest])


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
