"""Findings about photos: values that checks return, and that are printed, kept and shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from retrain.data.marks import Mark


class Kind(StrEnum):
    """What is found, in the order of findings that are equally bad."""

    LEAKAGE = "leakage"
    SHORTCUT = "shortcut"
    LABEL = "label"
    DUPLICATE = "duplicate"
    TOO_FEW = "too_few"
    QUALITY = "quality"
    OUTLIER = "outlier"
    SPLIT_CLASS = "split_class"
    MERGE_CLASSES = "merge_classes"
    BALANCE = "balance"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with photos.

    `severity` is 0 to 1. `sentence` is plain, with one figure and one remedy. `photos` are paths below the image
    folder, "/"-separated, worst first; `figures` are JSON values. `marks` say what could be done with photos: each is
    a proposal.
    """

    kind: Kind
    severity: float
    sentence: str
    photos: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    marks: Sequence[Mark] = ()


_ORDER = {kind: place for place, kind in enumerate(Kind)}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by their severity, and where that is equal, by kind and sentence."""
    return sorted(findings, key=lambda finding: (-finding.severity, _ORDER[finding.kind], finding.sentence))


def others(class_id: int, class_names: Sequence[str]) -> str:
    """Return what a sentence calls all classes but one: of two, the other one has a name."""
    names = [name for other, name in enumerate(class_names) if other != class_id]
    return names[0] if len(names) == 1 else "the other classes"
