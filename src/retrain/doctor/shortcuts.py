"""Properties of files and pictures that give the class away, so that a network need not look at what is shown.

Tanks that were told apart by the weather are the proverbial case; Geirhos et al., "Shortcut learning in deep neural
networks", Nature Machine Intelligence 2020. What a class really looks like may show in its colours, too. So colours,
light and sharpness count only where they tell a class almost surely.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data import properties
from retrain.doctor import places, sources
from retrain.doctor.findings import Finding, Kind, others
from retrain.doctor.photos import Photos
from retrain.doctor.telling import Telling, tell
from retrain.errors import printable

_FILE, _PICTURE = 0.8, 0.9  # balanced accuracies from which a property of files, or of pictures, is a shortcut
_RARELY = 0.01  # how often chance may do as well


@dataclass(frozen=True)
class _Property:
    """What may tell classes apart: columns of values, the accuracy that is too good, and the words."""

    name: str
    values: Callable[[np.ndarray], Sequence[np.ndarray]]
    least: float
    words: str
    remedy: str


def _size(known: np.ndarray) -> list[np.ndarray]:
    width, height = known["width"].astype(float), known["height"].astype(float)
    return [width, height, width / height, width * height]


def _border(known: np.ndarray) -> list[np.ndarray]:
    grey = known["grey"].astype(float)
    sides = grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]
    levels = [column for side in sides for column in (side.mean(axis=1), side.std(axis=1))]
    return [*levels, *known["border"].T.astype(float), known["border_contrast"].astype(float)]


def _numbers(*names: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    return lambda known: [known[name].astype(float) for name in names]


def _bytes_of_pixels(known: np.ndarray) -> list[np.ndarray]:
    return [known["bytes"] / (known["width"].astype(float) * known["height"])]


_PROPERTIES = (
    _Property(
        "size", _size, _FILE, "The size of a photo alone",
        "Take or crop the photos of all classes to the same sizes.",
    ),
    _Property(
        "format", lambda known: [known["format"]], _FILE, "The file format of a photo alone",
        "Save the photos of all classes in one format.",
    ),
    _Property(
        "compression", _bytes_of_pixels, _FILE, "The bytes of a photo for each of its pixels alone",
        "Save the photos of all classes with the same quality, from the same kind of source.",
    ),
    _Property(
        "camera", lambda known: [known["camera"]], _FILE, "The camera of a photo alone",
        "Photograph all classes with the same cameras.",
    ),
    _Property(
        "day", lambda known: [properties.day_of(known)], _FILE, "The day of a photo alone",
        "Photograph all classes on the same days.",
    ),
    _Property(
        "brightness", _numbers("brightness", "contrast", "dark_end", "bright_end"), _PICTURE,
        "The light of a photo alone",
        "Photograph all classes in the same light.",
    ),
    _Property(
        "colour", lambda known: list(known["colour"].T.astype(float)), _PICTURE, "The mean colour of a photo alone",
        "If the class is not of that colour by nature, photograph it in other surroundings.",
    ),
    _Property(
        "sharpness", _numbers("slope", "detail"), _PICTURE, "The sharpness of a photo alone",
        "Photograph all classes with the same focus.",
    ),
    _Property(
        "border", _border, _PICTURE, "The outermost edge of a photo alone",
        "Photograph all classes before the same backgrounds.",
    ),
)  # fmt: skip


def check(photos: Photos) -> list[Finding]:
    """Return findings about properties that tell a class from the others, sources of one class, and marks in photos."""
    numbers = np.flatnonzero(photos.properties["width"] > 0)
    known = photos.properties[numbers]
    found: dict[str, Finding] = {}
    for what in _PROPERTIES if len(numbers) else ():
        told = tell(what.values(known), photos.labels[numbers], least=what.least, seed=photos.seed)
        if told and told.p <= _RARELY:
            found[what.name] = _finding(what, told, photos.dataset.class_names)
    by_edge = {found["border"].figures["class"]} if "border" in found else set()
    more = [*sources.check(photos, passed_over=found), *places.check(photos, passed_over=by_edge)]
    return [*found.values(), *more]


def _finding(what: _Property, told: Telling, class_names: Sequence[str]) -> Finding:
    sentence = (
        f"{what.words} tells {class_names[told.class_id]} from {others(told.class_id, class_names)} in "
        f"{told.accuracy:.0%} of cases, where chance is right in 50%: the network may learn that instead of what is "
        f"shown. {what.remedy}"
    )
    figures = {
        "property": what.name,
        "class": class_names[told.class_id],
        "balanced_accuracy": round(told.accuracy, 4),
        "p": told.p,
    }
    return Finding(Kind.SHORTCUT, min(0.9, 2 * (told.accuracy - 0.5)), printable(sentence), figures=figures)
