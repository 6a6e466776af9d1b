"""Says in words whether a training learnt its photos by heart, with the figures that show it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrain.history import FIGURES, Evaluation

_SHARE = 0.05  # of the evaluations: the deviation of the weights that average them
_WIDEST = 100.0  # evaluations that are averaged; more cost time, and show no more
_LEAST_ROWS = 5  # evaluations that curves are read from
_TENTH = 10
_LEAST_GAP = 0.05  # of accuracies; smaller ones are worth no advice
_LEAST_RISE = 0.1  # of the lowest validation cross-entropy


@dataclass(frozen=True)
class Overfitting:
    """What the curves say of a training.

    `verdict` is "unknown", "none", "gap" (training photos are known better than others) or "rising" (further steps
    made the validation cross-entropy worse). The figures are means over the last tenth of the evaluations, `lowest` is
    the smallest value of the smoothed validation cross-entropy, at step `lowest_step`; NaN and 0 where unknown.
    """

    verdict: str
    sentence: str
    train_accuracy: float = math.nan
    validation_accuracy: float = math.nan
    train_cross_entropy: float = math.nan
    validation_cross_entropy: float = math.nan
    lowest: float = math.nan
    lowest_step: int = 0


def smooth(values: np.ndarray) -> np.ndarray:
    """Return float64 [E] values averaged with their neighbours, so that noise of single batches goes.

    The weights are a Gaussian whose deviation is a twentieth of all values, one value at least; at the ends, and around
    NaN, those that are there count for all.
    """
    count = len(values)
    if count < 3:
        return np.asarray(values, np.float64)
    deviation = _deviation(count)
    reach = min(count - 1, math.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    known = np.isfinite(values)
    sums = np.convolve(np.where(known, values, 0.0), kernel)[reach : reach + count]
    weights = np.convolve(known.astype(np.float64), kernel)[reach : reach + count]
    return np.where(weights > 1e-9, sums / np.maximum(weights, 1e-9), np.nan)


def judge(history: Sequence[Evaluation]) -> Overfitting:
    """Return what the evaluations of a training say, in their order; a pure function of them."""
    if not any(row.validation_count for row in history):
        return Overfitting("unknown", "Whether it overfits is not known: there are no validation photos.")
    columns = {name: np.array([getattr(row, name) for row in history]) for name in FIGURES}
    if len(history) < _LEAST_ROWS or not all(np.isfinite(values[-1]) for values in columns.values()):
        return Overfitting("unknown", "Whether it overfits is not known: there are too few evaluations.")
    last = max(3, len(history) // _TENTH)
    means = {name: float(np.nanmean(values[-last:])) for name, values in columns.items()}
    smoothed = smooth(columns["validation_cross_entropy"])
    best = int(np.nanargmin(smoothed))
    lowest, step = float(smoothed[best]), history[best].step
    found = Overfitting("none", "", **means, lowest=lowest, lowest_step=step)
    verdict, sentence = _verdict(found, _noise(history, columns, last), history[-last].step)
    return replace(found, verdict=verdict, sentence=sentence)


def _noise(history: Sequence[Evaluation], columns: dict[str, np.ndarray], last: int) -> tuple[float, float]:
    """Return by how much a mean of validation accuracies, and one of cross-entropies, may be off by chance."""
    share = float(np.nanmean(columns["validation_accuracy"][-last:]))
    photos = max(1, history[-1].validation_count)
    losses = columns["validation_cross_entropy"]
    spread = float(np.nanstd(losses - smooth(losses)))
    # The lowest of many averages is low by chance, too. Each is one of about 3.5 deviations' worth of values, at the
    # ends of half as many. Of 300 series of noise alone, four deviations of the difference called one a rise.
    averaged = math.sqrt(math.pi) * _deviation(len(losses))
    by_chance = 4 * spread * math.sqrt(1 / last + 1 / averaged)
    return 2 * math.sqrt(max(share * (1 - share), 1 / photos) / photos), by_chance


def _deviation(count: int) -> float:
    return min(max(1.0, _SHARE * count), _WIDEST)


def _verdict(found: Overfitting, noise: tuple[float, float], late: int) -> tuple[str, str]:
    """Return the verdict that figures lead to, and its sentence; `late` is the first step of the last tenth."""
    gap = found.train_accuracy - found.validation_accuracy
    rise = found.validation_cross_entropy - found.lowest
    accuracies = (
        f"{found.train_accuracy:.1%} on training photos and {found.validation_accuracy:.1%} on validation photos"
    )
    ending = "over the last tenth of the training"
    if found.lowest_step < late and rise > max(_LEAST_RISE * found.lowest, noise[1]):
        return (
            "rising",
            f"It overfits: the cross-entropy of the validation photos was lowest at step {found.lowest_step} "
            f"({found.lowest:.3f}) and rose to {found.validation_cross_entropy:.3f}, while that of the training photos "
            f"came to {found.train_cross_entropy:.3f}. Accuracy is {accuracies} {ending}. Fewer steps, more photos or "
            f"distortions would help.",
        )
    losses = f"cross-entropy {found.train_cross_entropy:.3f} and {found.validation_cross_entropy:.3f}"
    if gap > max(_LEAST_GAP, noise[0]):
        return (
            "gap",
            f"It overfits a little: it knows its training photos better than others, with accuracy {accuracies} "
            f"({losses}) {ending}. Further steps did no clear harm: the validation cross-entropy was "
            f"{found.lowest:.3f} at best. More photos would help.",
        )
    return (
        "none",
        f"No overfitting to be seen: accuracy is {accuracies} ({losses}) {ending}, and the validation cross-entropy "
        f"ends where it was lowest or close to it.",
    )
