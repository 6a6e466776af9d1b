"""Formats, cameras and days that belong to one class: its photos come from another source than the others."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data import properties
from retrain.doctor.findings import Finding, Kind, others
from retrain.doctor.photos import Photos
from retrain.errors import printable

_PURE = 0.95  # of the photos of a source are of one class
_WHOLE = 0.9  # of the photos of a class have one source
_ELSEWHERE = 0.5  # of the photos of other classes may have the same one
_FEWEST = 8  # photos of a source, and of a class
_RARELY = 0.01  # how often chance may do as well, for all sources together


@dataclass(frozen=True)
class _Source:
    """Photos, bool [n], that have one value, most of them `inside` one class, which chance gives so rarely."""

    value: str
    has: np.ndarray
    class_id: int
    count: int
    inside: int
    chance: float


def check(photos: Photos, *, passed_over: Collection[str] = ()) -> list[Finding]:
    """Return what is found of formats and cameras of one class only, and of classes of one camera or one day.

    Args:
        photos: All of them.
        passed_over: Properties of which enough is said: "format", "camera" or "day".
    """
    numbers = np.flatnonzero(photos.properties["width"] > 0)
    known = photos.properties[numbers]
    cameras, days = known["camera"], properties.day_of(known)
    found = []
    if "format" not in passed_over:
        formats = known["format"]
        found += _of_one_class(photos, numbers, "format", [(v.decode(), formats == v) for v in np.unique(formats)])
    if "camera" not in passed_over:
        found += _of_one_class(photos, numbers, "camera", [("", cameras != b"")])
        found += _of_one_source(photos, numbers, cameras, "camera")
    if "day" not in passed_over:
        found += _of_one_source(photos, numbers, days, "day")
    return found


def _of_one_class(
    photos: Photos, numbers: np.ndarray, name: str, sources: Sequence[tuple[str, np.ndarray]]
) -> list[Finding]:
    """Return a finding for the largest source, bool [n] each, whose photos are nearly all of one class, if any is."""
    labels, best = photos.labels[numbers], None
    for value, has in sources:
        counts = np.bincount(labels[has], minlength=1)
        class_id, count = int(counts.argmax()), int(has.sum())
        if count < _FEWEST or counts[class_id] < _PURE * count or (best and count <= best.count):
            continue
        chance = _chance(len(labels), int((labels == class_id).sum()), count, int(counts[class_id]))
        if chance * len(sources) < _RARELY:
            best = _Source(value, has, class_id, count, int(counts[class_id]), chance)
    return [_finding(photos, numbers, name, best)] if best else []


def _finding(photos: Photos, numbers: np.ndarray, name: str, source: _Source) -> Finding:
    """Return the finding about a source of the photos int64 [n] that is of one class."""
    class_id, count, inside = source.class_id, source.count, source.inside
    class_name = photos.dataset.class_names[class_id]
    what = f"{source.value} photos" if source.value else "photos that name a camera in their EXIF data"
    sentence = (
        f"{'All' if inside == count else f'{inside} of the'} {count} {what} are of class {class_name}: its photos come "
        f"from another source than those of {others(class_id, photos.dataset.class_names)}, and the network may learn "
        f"that. Take photos of all classes from each source."
    )
    mine = photos.labels[numbers] == class_id
    paths = [photos.dataset.examples[number].path for number in numbers[source.has & mine].tolist()]
    figures = {
        "property": name, "value": source.value, "class": class_name, "count": count, "of_class": inside,
        "p": source.chance,
    }  # fmt: skip
    share = inside / int(mine.sum())
    return Finding(Kind.SHORTCUT, min(0.6, 0.2 + share), printable(sentence), paths, figures)


def _of_one_source(photos: Photos, numbers: np.ndarray, values: np.ndarray, name: str) -> list[Finding]:
    """Return a finding for the classes nearly all of whose photos have one value [n], which others have rarely."""
    labels, unknown = photos.labels[numbers], values.dtype.type(b"" if values.dtype.kind == "S" else -1)
    sources: dict[str, str] = {}
    for class_id in np.unique(labels).tolist():
        mine = labels == class_id
        kinds, counts = np.unique(values[mine], return_counts=True)
        value = kinds[counts.argmax()]
        whole = value != unknown and mine.sum() >= _FEWEST and counts.max() >= _WHOLE * mine.sum()
        if whole and not mine.all() and np.mean(values[~mine] == value) < _ELSEWHERE:
            sources[photos.dataset.class_names[class_id]] = _text(value)
    if not sources:
        return []
    class_name, source = next(iter(sources.items()))
    count = len(sources) - 1
    more = f", and so are those of {count} other{'s' if count > 1 else ''}" if count else ""
    words, remedy = ("by one camera", "with other cameras") if name == "camera" else ("on one day", "on other days")
    sentence = (
        f"Nearly all photos of class {class_name} were taken {words} ({source}){more}: the network may learn "
        f"that. Photograph it {remedy}, too."
    )
    return [Finding(Kind.SHORTCUT, 0.5, printable(sentence), figures={"property": name, "sources": sources})]


def _text(value: bytes | int) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(np.datetime64(int(value), "D"))  # EXIF data may name days after the last one of `datetime`


def _chance(count: int, of_class: int, drawn: int, inside: int) -> float:
    """Return how often so many of the drawn photos, or more, are of a class by chance: the hypergeometric tail."""

    def log_ways(total: int, taken: int) -> float:
        return math.lgamma(total + 1) - math.lgamma(taken + 1) - math.lgamma(total - taken + 1)

    most = min(of_class, drawn)
    ways = [
        log_ways(of_class, k) + log_ways(count - of_class, drawn - k) - log_ways(count, drawn)
        for k in range(inside, most + 1)
        if drawn - k <= count - of_class
    ]
    return min(1.0, math.fsum(map(math.exp, ways)))
