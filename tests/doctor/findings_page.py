"""A page of findings of all kinds, about photos that were drawn for it."""

from pathlib import Path

import numpy as np
from conftest import photo

from retrain.data.dataset import Dataset, Example
from retrain.data.marks import Action, Mark
from retrain.data.split import Split
from retrain.doctor import page
from retrain.doctor.examining import Examination
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.evaluation.kept import Kept

CLASSES = ("daisy", "rose")
_EACH = 12


def photos_in(folder, classes=CLASSES):
    """Return photos `CLASS/0.png` and so on of a folder, each of a colour of its own."""
    paths = [f"{name}/{number}.png" for name in classes for number in range(_EACH)]
    for number, path in enumerate(paths):
        photo(folder / path, (9 * number, 120, 255 - 9 * number), seed=number)
    examples = tuple(Example(path, row // _EACH, Split.TRAINING) for row, path in enumerate(paths))
    keys = [b"key %d" % number for number in range(len(paths))]
    labels = np.repeat(np.arange(2), _EACH)
    return Photos(Dataset(folder, classes, examples), lambda rows: np.zeros((len(rows), 4)), keys, labels, 0)


def of_all_kinds(one="daisy", other="rose"):
    """Return a finding of each way to lay out photos, the worst first."""
    first, second = ([f"{name}/{number}.png" for number in range(_EACH)] for name in (one, other))
    suspects = [
        {"path": path, "class": one, "looks_like": other, "doubt": 0.9997, "probability": 0.8, "neighbours": second[:3]}
        for path in first[2:4]
    ]
    relabel = [Mark(path, Action.RELABEL, other) for path in first[2:4]]
    leaked = {"split": "testing", "leaked": 1, "photos": 9, "groups": [[first[0], second[5]]]}
    copies = {"copies": 1, "exact": 1, "groups": [[first[1], first[0]]]}
    parts = {"class": other, "sizes": [7, 5], "examples": [second[:2], second[2:4]], "apart": 4.0}
    shared = {"classes": [one, other], "told_apart": 0.5, "examples": [first[4:6], second[6:8]]}
    reasons = {"unreadable": 1, "files": 25, "reasons": {f"{one}/cut.png": "empty file"}}
    return [
        Finding(Kind.LEAKAGE, 0.9, "1 of 9 test photos is a copy.", [first[0]], leaked),
        Finding(Kind.LABEL, 0.7, "2 photos look like another class.", first[2:4], {"suspects": suspects}, relabel),
        Finding(Kind.SHORTCUT, 0.6, "The size tells.", figures={"property": "size", "class": one, "p": 0.005}),
        Finding(Kind.MERGE_CLASSES, 0.5, "A coin is as good.", [*first[4:6], *second[6:8]], shared),
        Finding(Kind.SPLIT_CLASS, 0.4, "It may be two.", second[:4], parts),
        Finding(
            Kind.QUALITY, 0.3, "It cannot be read.", list(reasons["reasons"]), reasons,
            [Mark(f"{one}/cut.png", Action.REMOVE)],
        ),
        Finding(Kind.DUPLICATE, 0.2, "1 photo is a copy.", [first[1]], copies, [Mark(first[1], Action.REMOVE)]),
        Finding(Kind.BALANCE, 0.1, "Take more.", figures={"counts": {one: 12, other: 1200}}),
    ]  # fmt: skip


def page_of(folder: Path, findings, photos=None):
    """Return the page of some findings about the photos in `photos` of a folder, where the page goes, too."""
    photos = photos or photos_in(folder / "photos")
    examination = Examination(photos, findings)
    return page.page_of(examination, Kept(folder), marks=folder / "check_images.marks.jsonl", folder=folder)
