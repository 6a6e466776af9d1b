"""Makes the page of what was found, in the style of a report: one file with its pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retrain.data.marks import Action
from retrain.doctor.examining import Examination
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.writing import marks_of
from retrain.evaluation import thumbnails
from retrain.evaluation.kept import Kept
from retrain.evaluation.page import photos
from retrain.evaluation.page.build import PAGE_BYTES
from retrain.evaluation.page.photos import Photo, Pictures
from retrain.evaluation.page.templating import render
from retrain.storage.folders import RemoteFolder

_FINDINGS_AT_MOST = 100
_SHOWN_AT_MOST = 24  # photos of a finding
_PICTURE_BYTES = 3_400_000  # of all pictures: a page has a third more, and should not exceed 5 MB
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


@dataclass(frozen=True)
class Shown:
    """A finding in a page: its heading, and the first of its photos, each with what is proposed and a new class."""

    finding: Finding
    head: str
    photos: list[tuple[Photo, str, str]]

    @property
    def more(self) -> int:
        """Return how many photos of the finding are not shown."""
        return len(self.finding.photos) - len(self.photos)


def page_of(examination: Examination, kept: Kept, *, marks: Path, folder: Path) -> bytes:
    """Return what was found as a page.

    Args:
        examination: The photos and what was found.
        kept: Keeps thumbnails, of this page and of reports.
        marks: The file of marks that is beside the page.
        folder: Where the page goes, from where it links to photos.
    """
    dataset = examination.photos.dataset
    drawn = thumbnails.through(kept, dataset.image_dir, _keys(examination))
    kept.write()
    pictures = Pictures(drawn, min(PAGE_BYTES, 4 * _PICTURE_BYTES // 3))
    contents = {
        "title": dataset.image_dir.resolve().name or str(dataset.image_dir),
        "folder": str(dataset.image_dir),
        "is_remote": isinstance(dataset.image_dir, RemoteFolder),
        "dataset": dataset,
        "shown": _shown(examination, pictures, photos.link(dataset.image_dir, folder)),
        "more": max(0, len(examination.findings) - _FINDINGS_AT_MOST),
        "marks": str(marks),
        "proposals": len(marks_of(examination.findings)),
        "pictures": pictures,
    }
    return render("findings.html", contents)


def _keys(examination: Examination) -> dict[str, bytes]:
    """Return the store's keys of the photos that are shown, by their paths."""
    looked_at = examination.photos
    known = {example.path: key for example, key in zip(looked_at.dataset.examples, looked_at.keys, strict=True)}
    paths = [path for finding in examination.findings[:_FINDINGS_AT_MOST] for path in finding.photos[:_SHOWN_AT_MOST]]
    return {path: key for path in paths if (key := known.get(path)) is not None}


def _shown(examination: Examination, pictures: Pictures, root: str) -> list[Shown]:
    names = examination.photos.dataset.class_names
    classes = {example.path: names[example.class_id] for example in examination.photos.dataset.examples}
    rows = []
    for finding in examination.findings[:_FINDINGS_AT_MOST]:
        marks = {mark.path: mark for mark in finding.marks}
        shown = []
        for path in finding.photos[:_SHOWN_AT_MOST]:
            true = classes.get(path) or _class_of(path, classes)
            photo = Photo(path, true, photos.link_below(root, path), pictures.number(path))
            mark = marks.get(path)
            shown.append(
                (photo, _proposal(mark.action, mark.class_name) if mark else "", mark.class_name if mark else "")
            )
        rows.append(Shown(finding, _HEADS[finding.kind], shown))
    return rows


def _class_of(path: str, classes: Mapping[str, str]) -> str:
    """Return the class of a photo that cannot be read: the innermost of its folders that is one."""
    known = set(classes.values())
    return next((part for part in reversed(PurePosixPath(path).parts[:-1]) if part in known), "")


def _proposal(action: Action, class_name: str) -> str:
    return {Action.KEEP: "keep", Action.REMOVE: "remove", Action.RELABEL: f"move to {class_name}"}[action]
