"""What to photograph next: of which class more photos would raise the accuracy most, if that is sure.

Heads without half of the photos of some classes say what those photos do, and families of curves say what as many more
would. The accuracy here is the mean of the shares of each class that are right: a class of few photos, which a plain
accuracy hardly counts, is as important as another.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.doctor import curves, families, heads
from retrain.doctor.curves import Measured
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.heads import Job
from retrain.doctor.photos import FOLDS, Photos
from retrain.evaluation.metrics import Interval

_FOLDS, _HEADS = 4, 16  # of each fold
_CLASSES = 12  # at most, of which photos are left out: three heads more show what is chance
_SCORED = 4000  # photos at most of a fold, where there are many
_RESAMPLES = 200
_SURE = 0.95  # of the resamples must agree
_TIMES = (5, 2)  # so many times the photos of another class would do less; of equally many, chance decides
_GAIN = 0.005  # by so much they must raise the accuracy, for it to be said
_FEWEST = 10  # photos that are proposed: what fewer do is luck
_SEVERITY = 0.2  # nothing is wrong


@dataclass(frozen=True)
class Effects:
    """What photos of some classes do for the accuracy.

    `classes` int64 [c] are class ids, `counts` int64 [c] their photos. `halves` float64 [B, c] is by how much the
    second half of a class's photos raises the accuracy, as B values that are equally likely.
    `known` float64 [B / F, S] are resampled accuracies with parts of all photos, `sizes` float64 [S], where 1 is all:
    each is continued by F families.
    """

    classes: np.ndarray
    counts: np.ndarray
    halves: np.ndarray
    known: np.ndarray
    sizes: np.ndarray

    def gains(self, place: int, more: int) -> np.ndarray:
        """Return float64 [B]: by how much more photos of a class, by its place in `classes`, raise the accuracy."""
        gains: np.ndarray = self.halves[:, place] * self.growth(place, more)
        return gains

    def growth(self, place: int, more: int) -> np.ndarray:
        """Return float64 [B]: what more photos of a class do, as a share of what the second half of its photos did.

        It is taken to be as that of all classes together.
        """
        seen = 1 - 1 / _FOLDS  # by a head
        wanted = np.array([seen / 2, seen, 1, 1 + more / self.counts[place]])
        half, whole, now, then = families.extrapolated(self.known, self.sizes, wanted).reshape(-1, len(wanted)).T
        rise = np.maximum(whole - half, np.finfo(float).tiny)
        growth: np.ndarray = (then - now) / rise
        return growth

    def interval(self, place: int, more: int) -> Interval:
        """Return by how much more photos of a class raise the accuracy, meant to hold in 8 of 10 cases."""
        return curves.middle(self.gains(place, more))


@dataclass(frozen=True)
class Advice:
    """More photos of one class would do more than many more of another: places of classes, and photos."""

    best: int
    more: int
    other: int
    more_of_other: int


def check(photos: Photos, measured: Measured) -> list[Finding]:
    """Return which class to photograph next, if that is sure.

    Args:
        photos: All photos, ten or more of each class.
        measured: How heads do on parts of them.

    Raises:
        TrainingError: A training diverged.
    """
    if len(photos.dataset.class_names) < 2 or 1 - _mean_of_classes(*_now(photos, measured)) < _GAIN:
        return []
    effects = measure(photos, measured)
    advice = advise(effects)
    return [_finding(photos, effects, advice)] if advice else []


def measure(photos: Photos, measured: Measured) -> Effects:
    """Return what photos of each class do, of many classes those whose photos are wrong most and least often.

    In each fold, the classes that are halved follow a Hadamard matrix: each class is halved for half of the heads,
    independently of each other class, so that all heads tell of all classes (Plackett and Burman, "The design of
    optimum multifactorial experiments", Biometrika 33, 1946). Each head leaves out other photos.

    Args:
        photos: All photos, of two classes or more.
        measured: How heads do on parts of them.

    Raises:
        TrainingError: A training diverged.
    """
    counts, classes = np.bincount(photos.labels), _chosen(*_now(photos, measured))
    signs = _hadamard()[:, 1 : len(classes) + 1]
    folds, rng = _folds_of(photos), np.random.default_rng(photos.seed)
    jobs: list[Job] = []
    for whole in folds:
        halved = np.zeros((len(signs), len(counts)), bool)
        halved[:, classes] = signs < 0
        jobs += [Job(_without(whole.trained, photos.labels, row, rng), whole.scored) for row in halved]
    of_photos, means = np.zeros((len(classes), len(photos.labels))), np.zeros((len(folds), len(signs)))
    for number, (job, found) in enumerate(zip(jobs, heads.scores(photos, jobs), strict=True)):
        fold, row = divmod(number, len(signs))
        right = _rightness(found, photos.labels[job.scored])
        of_photos[:, job.scored] += signs[row][:, None] * right * (2 / len(signs))
        means[fold, row] = _mean_of_classes(right, photos.labels[job.scored])
    scored = np.concatenate([whole.scored for whole in folds])
    halves = _resampled(of_photos[:, scored], photos.labels[scored], len(families.FAMILIES) * _RESAMPLES, rng)
    halves += rng.normal(scale=_error(means, signs), size=halves.shape)
    known = _resampled(measured.right, photos.labels[measured.scored], _RESAMPLES, rng)
    return Effects(classes, counts[classes], halves, known, measured.sizes * (1 - 1 / FOLDS) / measured.sizes[-1])


def advise(effects: Effects) -> Advice | None:
    """Return of which class more photos would do more than many more of another, None if nothing is sure.

    The class is that of which as many photos as the smallest class has would do most, and the other one that which
    most surely does less. No more photos than a class has are proposed: a curve does not say more.
    """
    smallest = int(effects.counts.min())
    best = int(np.argmax([np.median(effects.gains(place, smallest)) for place in range(len(effects.counts))]))
    for times in _TIMES:
        tried = [
            (_sureness(effects, advice), advice)
            for other, count in enumerate(effects.counts.tolist())
            if other != best and (more := _rounded(min(int(effects.counts[best]), count // times)))
            for advice in [Advice(best, more, other, times * more)]
        ]
        sureness, advice = max(tried, key=lambda each: each[0], default=(0.0, None))
        if advice and sureness >= _SURE and np.median(effects.gains(best, advice.more)) >= _GAIN:
            return advice
    return None


def _sureness(effects: Effects, advice: Advice) -> float:
    """Return how often the photos of one class do more than those of the other, and more than nothing, 0 to 1.

    The least effect of many was so by luck, too: the other class is taken to be as good as the mean of all others.
    """
    others = np.delete(effects.halves, advice.best, axis=1).mean(axis=1)
    half = np.maximum(np.maximum(effects.halves[:, advice.other], others), 0)
    gained = half * effects.growth(advice.other, advice.more_of_other)
    return float(np.mean(effects.gains(advice.best, advice.more) > gained))


def _folds_of(photos: Photos) -> list[Job]:
    """Return a job for each fold: all other photos, and those of the fold; of many photos, only one and a sample."""
    fold = photos.folds(_FOLDS)
    jobs = [Job(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(fold.max() + 1)]
    if len(fold) <= heads.MANY:
        return jobs
    scored = np.random.default_rng(photos.seed).permutation(jobs[0].scored)[:_SCORED]
    return [Job(jobs[0].trained, np.sort(scored))]


def _now(photos: Photos, measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the photos that were scored are right, float64 [n], and their class ids int64 [n]."""
    return measured.right[-1], photos.labels[measured.scored]


def _chosen(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return at most `_CLASSES` class ids, ascending: two thirds are most often wrong, the others least."""
    counts = np.bincount(labels)
    order = np.argsort(np.bincount(labels, right) / np.maximum(counts, 1), kind="stable")
    order = order[counts[order] > 0]
    if len(order) <= _CLASSES:
        return np.sort(order)
    worst = 2 * _CLASSES // 3
    return np.sort(np.concatenate([order[:worst], order[worst - _CLASSES :]]))


def _rightness(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return float64 [n], 0 to 1: how clearly photos are right, p^2 / (p^2 + q^2) of their class and the best other.

    Whether they are right says less, for few photos change that; and p rises with each photo, whatever it shows.
    """
    numbers = np.arange(len(labels))
    others = scores.astype(float)
    own = others[numbers, labels] ** 2
    others[numbers, labels] = 0
    rightness: np.ndarray = own / np.maximum(own + others.max(axis=1) ** 2, np.finfo(float).tiny)
    return rightness


def _mean_of_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes of the mean of values [n] in each."""
    counts = np.bincount(labels)
    return float((np.bincount(labels, values) / np.maximum(counts, 1))[counts > 0].mean())


def _error(means: np.ndarray, signs: np.ndarray) -> float:
    """Return the standard error of an effect by the photos that heads see, from what effects leave unexplained.

    Args:
        means: float64 [F, R], the accuracy of each head of each fold.
        signs: int64 [R, c], 1 for a whole class and -1 for half of one.
    """
    rest = means - means.mean(axis=1, keepdims=True)
    rest = rest - rest @ signs @ signs.T / len(signs)
    free = len(means) * (len(signs) - 1 - signs.shape[1])
    return 2 * float(np.sqrt((rest**2).sum() / free / means.size))


def _resampled(of_photos: np.ndarray, labels: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """Return float64 [times, c]: what there is of photos, [c, n], as means over the classes of resampled photos."""
    means = np.zeros((times, len(of_photos)))
    present = np.unique(labels).tolist()
    for class_id in present:
        of_class = of_photos[:, labels == class_id]
        count = of_class.shape[1]
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=times)
        means += drawn @ of_class.T / (count * len(present))
    return means


def _without(rows: np.ndarray, labels: np.ndarray, halved: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return int64 [n], ascending: some photos without half of those of the classes that are halved, bool [C]."""
    order, rank, of_class = heads.shuffled(rows, labels, rng)
    left_out = halved[labels[order]] & (rank >= (of_class + 1) // 2)
    return np.sort(order[~left_out])


def _hadamard() -> np.ndarray:
    """Return Sylvester's matrix of 1 and -1, int64 [`_HEADS`, `_HEADS`]; its first column is 1."""
    matrix = np.ones((1, 1), np.int64)
    while len(matrix) < _HEADS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _rounded(count: int) -> int:
    """Return a number of photos as people say it, at most another: fives, from 50 on tens, from 500 hundreds, or 0."""
    unit = 5 if count < 50 else 10 if count < 500 else 100
    return count // unit * unit if count >= _FEWEST else 0


def _finding(photos: Photos, effects: Effects, advice: Advice) -> Finding:
    names = [photos.dataset.class_names[class_id] for class_id in effects.classes.tolist()]
    said = effects.interval(advice.best, advice.more)
    sentence = (
        f"{advice.more} more photos of {names[advice.best]!r} would do more than {advice.more_of_other} more of "
        f"{names[advice.other]!r}: photograph {names[advice.best]!r} next, and the accuracy, each class counting the "
        f"same, rises by {100 * said.low:.1f} to {100 * said.high:.1f} points."
    )
    figures: dict[str, Any] = {
        "photograph": {"class": names[advice.best], "photos": advice.more, "gain": _ends(said)},
        "rather_than": {
            "class": names[advice.other],
            "photos": advice.more_of_other,
            "gain": _ends(effects.interval(advice.other, advice.more_of_other)),
        },
        "gain_of_twice_the_photos": {
            name: _ends(effects.interval(place, int(effects.counts[place]))) for place, name in enumerate(names)
        },
    }
    return Finding(Kind.TOO_FEW, _SEVERITY, sentence, figures=figures)


def _ends(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]
