"""Photos that show little: dark, bright, empty, blurred, tiny, or of an odd shape.

A photo is named where it is poor by itself and also far from the others of the set: a set of night photos, or one of
tiny pictures, is as it should be. Far is behind Tukey's inner fence ("Exploratory data analysis", 1977).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural

_FENCE = 1.5  # quartile distances
_DARK, _BRIGHT = 50, 215  # levels of 255 that the brightest twentieth is below, or the darkest above
_EMPTY = 5.0  # levels of standard deviation
_BLUR = 0.68  # second differences for first ones: sharp photos have 0.7 to 1.8, those blurred by 2 px of 224 0.47
_FLAT = 2.0  # levels of second differences
_LARGE = 128  # px of the shorter side: smaller photos are enlarged, and all look blurred to the network
_TINY, _TINY_SHARE = 64, 0.5  # px of the shorter side, and of the median one
_ODD = 3.0  # times as long as wide, and than the median shape is
_EXAMPLES = 2


@dataclass(frozen=True)
class _Fault:
    """How poor photos of one fault are: `measure` [N], the less the worse, `is_poor` bool [N], and the words."""

    name: str
    measure: Callable[[np.ndarray], np.ndarray]
    is_poor: Callable[[np.ndarray], np.ndarray]
    words: str
    remedy: str


def _sharpness(known: np.ndarray) -> np.ndarray:
    sharpness: np.ndarray = known["detail"] / np.maximum(known["slope"], 1e-6)
    return sharpness


def _shorter(known: np.ndarray) -> np.ndarray:
    shorter: np.ndarray = np.minimum(known["width"], known["height"]).astype(float)
    return shorter


def _elongation(known: np.ndarray) -> np.ndarray:
    """Return how many times as long as they are high photos are, in logarithms."""
    ratio: np.ndarray = np.log(known["width"] / known["height"])
    return ratio


def _shape(known: np.ndarray) -> np.ndarray:
    """Return how far from the median shape photos are, in logarithms, negative."""
    elongation = _elongation(known)
    distance: np.ndarray = np.abs(elongation - np.median(elongation))
    return -distance


def _is_odd(known: np.ndarray) -> np.ndarray:
    is_odd: np.ndarray = (np.abs(_elongation(known)) > np.log(_ODD)) & (_shape(known) < -np.log(_ODD))
    return is_odd


# A photo has the first fault that holds: a dark one looks blurred, too.
_FAULTS = (
    _Fault(
        "tiny", lambda k: np.log(_shorter(k)),
        lambda k: (_shorter(k) < _TINY) & (_shorter(k) < _TINY_SHARE * np.median(_shorter(k))),
        "{photos} {are} tiny{examples}", "Use the originals: a tiny photo shows nothing more when it is enlarged.",
    ),
    _Fault(
        "dark", lambda k: k["bright_end"], lambda k: k["bright_end"] < _DARK,
        "{photos} {are} almost black{examples}", "Photograph with more light, or remove what you cannot tell.",
    ),
    _Fault(
        "bright", lambda k: -k["dark_end"], lambda k: k["dark_end"] > _BRIGHT,
        "{photos} {are} almost white{examples}", "Photograph with less light, or remove what you cannot tell.",
    ),
    _Fault(
        "empty", lambda k: np.log(np.maximum(k["contrast"], 1e-6)), lambda k: k["contrast"] < _EMPTY,
        "{photos} {show} one even colour{examples}", "Remove what shows nothing.",
    ),
    _Fault(
        "blurred", lambda k: np.log(np.maximum(k["detail"], 1e-6)) + np.log(np.maximum(_sharpness(k), 1e-6)),
        lambda k: ((_sharpness(k) < _BLUR) | (k["detail"] < _FLAT)) & (_shorter(k) >= _LARGE),
        "{photos} {are} blurred{examples}", "Take such photos again, or remove what you cannot tell.",
    ),
    _Fault(
        "odd_shape", _shape, _is_odd,
        "{photos} {are} of an odd shape{examples}", "Crop such photos to what matters.",
    ),
)  # fmt: skip


def check(photos: Photos) -> list[Finding]:
    """Return a finding for each fault that photos have, the worst photos first."""
    numbers = np.flatnonzero(photos.properties["width"] > 0)
    known, found, free = photos.properties[numbers], [], np.ones(len(numbers), bool)
    for fault in _FAULTS if len(numbers) else ():
        measures = fault.measure(known)
        poor = free & fault.is_poor(known) & (measures < _fence(measures))
        free &= ~poor
        places = np.flatnonzero(poor)
        worst = numbers[places[np.argsort(measures[places], kind="stable")]]
        if len(worst):
            found.append(
                _finding(fault, [photos.dataset.examples[number].path for number in worst.tolist()], len(photos.labels))
            )
    return found


def _fence(values: np.ndarray) -> float:
    """Return what few values are below."""
    first, third = np.percentile(values, [25, 75])
    return float(first - _FENCE * (third - first))


def _finding(fault: _Fault, paths: Sequence[str], count: int) -> Finding:
    one = len(paths) == 1
    words = fault.words.format(
        photos=plural(len(paths), "photo"),
        are="is" if one else "are",
        show="shows" if one else "show",
        examples=f": {paths[0]}" if one else f", such as {' and '.join(paths[:_EXAMPLES])}",
    )
    severity = min(0.5, 0.1 + 2 * len(paths) / count)
    return Finding(
        Kind.QUALITY, severity, f"{words}. {fault.remedy}", paths, {"fault": fault.name, "count": len(paths)}
    )
