"""How the photos of a finding are laid out in a page: heading, rank, and which photos are shown beside which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrain.doctor.findings import Finding, Kind

_PHOTOS_AT_MOST = 24  # of a finding
_SUSPECTS_AT_MOST = 48  # which are looked at one by one
_SUREST = 0.99  # that is said of a label
_GRADES = ((0.6, "serious"), (0.3, "moderate"), (0.0, "minor"))
_HEADS = {
    Kind.LEAKAGE: "Test photos that are trained on",
    Kind.SHORTCUT: "A shortcut",
    Kind.LABEL: "Labels that may be wrong",
    Kind.DUPLICATE: "Photos that are there more than once",
    Kind.TOO_FEW: "Too few photos",
    Kind.QUALITY: "Poor photos",
    Kind.OUTLIER: "Photos unlike their class",
    Kind.SPLIT_CLASS: "A class that may be two",
    Kind.MERGE_CLASSES: "Classes that may be one",
    Kind.BALANCE: "Unbalanced classes",
}
_FAULTS = {
    "tiny": "Tiny photos",
    "dark": "Dark photos",
    "bright": "Bright photos",
    "empty": "Photos that show nothing",
    "blurred": "Blurred photos",
    "odd_shape": "Photos of an odd shape",
}


@dataclass(frozen=True)
class Group:
    """Photos that are shown together, by their paths; `words` say something of some of them.

    `near` are photos to compare them with, below `near_caption`.
    """

    caption: str
    paths: Sequence[str]
    words: Mapping[str, str]
    near_caption: str = ""
    near: Sequence[str] = ()


@dataclass(frozen=True)
class Layout:
    """The groups of a finding's photos, and how: "tiles", "sets" of a few, "parts" with captions, or "cards" of one."""

    name: str
    groups: Sequence[Group]

    @property
    def paths(self) -> Iterable[str]:
        """Yield the paths of all photos, those to compare with, too."""
        for group in self.groups:
            yield from group.paths
            yield from group.near


def grade_of(finding: Finding) -> str:
    """Return how bad a finding is, in a word."""
    return next(word for least, word in _GRADES if finding.severity >= least)


def head_of(finding: Finding) -> str:
    """Return the heading of a finding, which tells it from others of its kind."""
    figures, head = finding.figures, _HEADS[finding.kind]
    if finding.kind is Kind.LEAKAGE and figures.get("split") == "validation":
        return "Validation photos that are trained on"
    if finding.kind is Kind.LABEL and "groups" in figures:
        return "Photos in several classes at once"
    if finding.kind is Kind.QUALITY:
        return "Files that cannot be read" if "unreadable" in figures else _FAULTS.get(figures.get("fault", ""), head)
    if finding.kind is Kind.TOO_FEW and "with_twice_the_photos" in figures:
        return "What more photos would do"
    if finding.kind is Kind.TOO_FEW and "photograph" in figures:
        return "What to photograph next"
    if finding.kind is Kind.SHORTCUT and "property" in figures:
        return f"{head}: {figures['property']}"
    if finding.kind is Kind.SPLIT_CLASS and "class" in figures:
        return f"{head}: {figures['class']}"
    if finding.kind is Kind.MERGE_CLASSES and "classes" in figures:
        return f"{head}: {' and '.join(figures['classes'])}"
    return head


def layout_of(finding: Finding) -> Layout:
    """Return which photos of a finding are shown, and how: what its figures say belongs together, is together."""
    figures = finding.figures
    if "suspects" in figures:
        return Layout("cards", [_suspect(row) for row in figures["suspects"][:_SUSPECTS_AT_MOST]])
    if "groups" in figures:
        return Layout("sets", list(_sets(finding)))
    if "examples" in figures:
        return Layout("parts", list(_parts(finding)))
    paths = finding.photos[:_PHOTOS_AT_MOST]
    return Layout("tiles", [Group("", paths, figures.get("reasons", {}))] if paths else [])


def table_of(finding: Finding) -> list[tuple[str, ...]]:
    """Return what a finding says of several classes as rows, the first of which is the head; [] of none or one."""
    figures = finding.figures
    if len(figures.get("counts", ())) > 1:
        return [("class", "photos"), *((name, f"{count:,}") for name, count in figures["counts"].items())]
    if "with_twice_the_photos" in figures:
        rows = [
            (name, f"{said['accuracy']:.1%}", _range(said["with_twice_the_photos"], ".1%"))
            for name, said in figures["classes"].items()
            if said
        ]
        return [("class", "right now", "with twice the photos"), *rows]
    if "places" in figures:
        rows = [
            (name, said["place"], *(f"{said[key]:.0%}" for key in ("balanced_accuracy", "balanced_accuracy_of_middle")))
            for name, said in figures["places"].items()
        ]
        return [("class", "place", "told by it alone", "by the middle alone"), *rows]
    if "gain_of_twice_the_photos" in figures:
        gains = figures["gain_of_twice_the_photos"].items()
        return [("class", "accuracy with twice its photos"), *((name, _range(ends, "+.1%")) for name, ends in gains)]
    return []


def _range(ends: Sequence[float], form: str) -> str:
    return " to ".join(f"{end:{form}}" for end in ends)


def _suspect(row: Mapping[str, Any]) -> Group:
    words = f"Its label is {min(row['doubt'], _SUREST):.0%} likely to be wrong."
    near = f"Nearest photos of {row['looks_like']}"
    return Group(row["looks_like"], [row["path"]], {row["path"]: words}, near, row["neighbours"])


def _sets(finding: Finding) -> Iterable[Group]:
    """Yield groups of photos that show the same, as many as there is room for: what may stay comes first in each."""
    room, split = _PHOTOS_AT_MOST, finding.figures.get("split")  # of the first of each group; the others are trained on
    removed = {mark.path for mark in finding.marks}
    for paths in finding.figures["groups"]:
        ordered = sorted(paths, key=lambda path: path in removed)[:room]
        room -= len(ordered)
        words = {path: f"for {'training' if place else split}" for place, path in enumerate(ordered)} if split else {}
        yield Group("", ordered, words)
        if room < 2:  # a copy without its original says little
            return


def _parts(finding: Finding) -> Iterable[Group]:
    """Yield the typical photos of both parts of a class, or those that two classes share."""
    figures, one = finding.figures, finding.kind is Kind.SPLIT_CLASS
    for number, paths in enumerate(figures["examples"]):
        if one:
            caption = f"{figures['sizes'][number]:,} photos like these"
        else:
            names = figures["classes"][number], figures["classes"][1 - number]
            caption = "{} that look like {}".format(*names)
        if paths:
            yield Group(caption, paths, {})
