"""Learning curves: how accurate heads are on parts of the photos, and what twice the photos would do.

No one curve is right, so four families are fitted to many resamples of the photos, and what all of them say together
gives an interval (Mahmood et al., CVPR 2022).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.doctor import families, heads
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.heads import Job
from retrain.doctor.photos import Photos
from retrain.evaluation.metrics import Interval

SHARES = (0.1, 0.18, 0.32, 0.56, 1.0)  # of the photos that a fold leaves
HELD = 0.8  # the share of intervals that are meant to hold
_RESAMPLES = 200
_GAIN = 0.01  # by so much more photos must help, for it to be said
_SEVERITY = 0.3  # at most: nothing is wrong


@dataclass(frozen=True)
class Measured:
    """Whether photos are given their class by heads that have not seen them.

    `sizes` float64 [S] are the numbers of photos that the heads were trained on, ascending; `right` float64 [S, n] is 1
    where the head of a size is right on each of the photos `scored`, int64 [n], else 0.
    """

    sizes: np.ndarray
    right: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class Outlook:
    """The accuracy now, what it will be with twice the photos, and by how much it will rise; 0 to 1.

    The intervals are meant to hold in 8 of 10 cases.
    """

    now: float
    twice: Interval
    gain: Interval


def check(photos: Photos, measured: Measured) -> list[Finding]:
    """Return what twice the photos would do, in all and of each class, if they are sure to do something.

    Args:
        photos: All photos.
        measured: How heads do on parts of them.
    """
    names = photos.dataset.class_names
    whole = outlook(measured, seed=photos.seed)
    if whole.gain.low < _GAIN:
        return []
    classes = {name: _of_class(photos, measured, class_id) for class_id, name in enumerate(names)}
    figures = {"photos": len(photos.labels), **_figures(whole), "classes": classes}
    sentence = f"The accuracy is {whole.now:.1%}, and with twice the photos it would {_rise(whole)}: take more photos."
    return [Finding(Kind.TOO_FEW, min(_SEVERITY, 5 * whole.gain.low), sentence, figures=figures)]


def measure(photos: Photos) -> Measured:
    """Return how heads that are trained on a tenth of the photos and more do on others.

    The photos are divided into five folds, near-duplicates by name in one. Each fold is scored by heads that are
    trained on growing parts of the others, each part within the next, each class by its share. Of many photos, one fold
    says enough.

    Args:
        photos: All photos.

    Raises:
        TrainingError: A training diverged.
    """
    count, fold = len(photos.labels), photos.fold
    jobs: list[Job] = []
    for number in range(fold.max() + 1 if count <= heads.MANY else 1):
        jobs += _jobs(photos.labels, fold == number, np.random.default_rng([photos.seed, number]))
    right = np.zeros((len(SHARES), count))
    for number, (job, found) in enumerate(zip(jobs, heads.scores(photos, jobs), strict=True)):
        right[number % len(SHARES), job.scored] = found.argmax(axis=1) == photos.labels[job.scored]
    scored = np.unique(np.concatenate([job.scored for job in jobs]))
    sizes = np.array([len(job.trained) for job in jobs], float).reshape(-1, len(SHARES)).mean(axis=0)
    return Measured(sizes, right[:, scored], scored)


def outlook(measured: Measured, *, seed: int, among: np.ndarray | None = None) -> Outlook:
    """Return what twice the photos would do.

    Args:
        measured: Which photos are right.
        seed: Decides how photos are resampled.
        among: bool [n], which of the scored photos to look at, those of one class; all by default.
    """
    right = measured.right if among is None else measured.right[:, among]
    count = right.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    curves = drawn @ right.T / count
    said = families.extrapolated(curves, measured.sizes, measured.sizes[-1] * np.array([1.0, 2.0]))
    gains = said[..., 1] - said[..., 0]
    return Outlook(float(right[-1].mean()), middle(np.minimum(curves[:, -1] + gains, 1)), middle(gains))


def middle(values: np.ndarray) -> Interval:
    """Return the interval between the outer tenths of some values."""
    low, high = np.quantile(values, [(1 - HELD) / 2, (1 + HELD) / 2])
    return Interval(float(low), float(high))


def _jobs(labels: np.ndarray, held_out: np.ndarray, rng: np.random.Generator) -> list[Job]:
    """Return the heads that score some photos, bool [N], one for each share of the others."""
    order, rank, of_class = heads.shuffled(np.flatnonzero(~held_out), labels, rng)
    return [Job(np.sort(order[rank < np.ceil(share * of_class)]), np.flatnonzero(held_out)) for share in SHARES]


def _of_class(photos: Photos, measured: Measured, class_id: int) -> dict[str, Any]:
    among = photos.labels[measured.scored] == class_id
    return _figures(outlook(measured, seed=photos.seed, among=among)) if among.any() else {}


def _rise(said: Outlook) -> str:
    """Return what the accuracy would do; the interval may begin below the accuracy now, as that is not sure either."""
    high = f"{said.twice.high:.1%}"
    return f"be between {said.twice.low:.1%} and {high}" if said.twice.low > said.now else f"rise, up to {high}"


def _figures(said: Outlook) -> dict[str, Any]:
    low, high = (round(end, 4) for end in (said.twice.low, said.twice.high))
    return {"accuracy": round(said.now, 4), "with_twice_the_photos": [low, high]}
