"""Makes the page of what was found, in the style of a report: one file with its pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from retrain.data.marks import Action, Mark
from retrain.doctor import laying_out
from retrain.doctor.examining import Examination
from retrain.doctor.findings import Finding
from retrain.doctor.laying_out import Group
from retrain.doctor.writing import marks_of
from retrain.evaluation import thumbnails
from retrain.evaluation.kept import Kept
from retrain.evaluation.page import photos
from retrain.evaluation.page.build import fitted
from retrain.evaluation.page.photos import Photo, Pictures
from retrain.evaluation.page.templating import render
from retrain.storage.folders import RemoteFolder

_FINDINGS_AT_MOST = 100


@dataclass(frozen=True)
class Tile:
    """A photo in a page, what is said of it, and what is proposed, in words and as a mark."""

    photo: Photo
    words: str = ""
    proposal: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Shown:
    """A finding in a page: its heading, how bad it is in a word, and its photos, as `laying_out` groups them."""

    finding: Finding
    head: str
    grade: str
    layout: str
    groups: Sequence[tuple[Group, Sequence[Tile], Sequence[Tile]]]
    table: Sequence[tuple[str, ...]]

    @property
    def count(self) -> int:
        """Return how many photos the finding names, 0 where they are only examples."""
        return 0 if self.layout == "parts" else len(self.finding.photos)

    @property
    def more(self) -> int:
        """Return how many photos of the finding are not shown."""
        shown = {tile.photo.path for _, tiles, _ in self.groups for tile in tiles}
        return len(set(self.finding.photos) - shown)

    @property
    def proposals(self) -> int:
        """Return how many of the photos that are shown have a proposal."""
        return sum(bool(tile.mark) for _, tiles, _ in self.groups for tile in tiles)


def page_of(examination: Examination, kept: Kept, *, marks: Path, folder: Path) -> bytes:
    """Return what was found as a page of at most 5 MB, where the text alone is not more.

    Args:
        examination: The photos and what was found.
        kept: Keeps thumbnails, of this page and of reports.
        marks: The file of marks that is beside the page.
        folder: Where the page goes, from where it links to photos.
    """
    dataset = examination.photos.dataset
    findings = examination.findings[:_FINDINGS_AT_MOST]
    layouts = [laying_out.layout_of(finding) for finding in findings]
    wanted = [path for layout in layouts for path in layout.paths]
    drawn = thumbnails.through(kept, dataset.image_dir, _keys(examination, wanted))
    kept.write()
    contents = {
        "title": dataset.image_dir.resolve().name or str(dataset.image_dir),
        "folder": str(dataset.image_dir),
        "is_remote": isinstance(dataset.image_dir, RemoteFolder),
        "dataset": dataset,
        "more": len(examination.findings) - len(findings),
        "marks": str(marks),
        "proposals": len(marks_of(examination.findings)),
    }

    def make(pictures: Pictures) -> bytes:
        album = _Album(examination, pictures, photos.link(dataset.image_dir, folder))
        shown = [album.shown(*row) for row in zip(findings, layouts, strict=True)]
        grades = Counter(each.grade for each in shown)
        return render("findings.html", {**contents, "shown": shown, "grades": grades, "pictures": pictures})

    return fitted(drawn, make)


def _keys(examination: Examination, paths: Sequence[str]) -> dict[str, bytes]:
    """Return the store's keys of some photos, by their paths."""
    looked_at = examination.photos
    known = {example.path: key for example, key in zip(looked_at.dataset.examples, looked_at.keys, strict=True)}
    return {path: key for path in paths if (key := known.get(path)) is not None}


@dataclass(frozen=True)
class _Album:
    """Makes the photos of a page; `root` is the link to the image folder."""

    examination: Examination
    pictures: Pictures
    root: str

    @cached_property
    def _classes(self) -> dict[str, str]:
        dataset = self.examination.photos.dataset
        return {example.path: dataset.class_names[example.class_id] for example in dataset.examples}

    def shown(self, finding: Finding, layout: laying_out.Layout) -> Shown:
        """Return a finding with its photos."""
        marks = {mark.path: mark for mark in finding.marks}
        groups = [
            (
                group,
                [self._tile(path, group.words, marks) for path in group.paths],
                [self._tile(path, {}, {}) for path in group.near],
            )
            for group in layout.groups
        ]
        head, grade = laying_out.head_of(finding), laying_out.grade_of(finding)
        return Shown(finding, head, grade, layout.name, groups, laying_out.table_of(finding))

    def _tile(self, path: str, words: Mapping[str, str], marks: Mapping[str, Mark]) -> Tile:
        true = self._classes.get(path) or self._class_of(path)
        photo = Photo(path, true, photos.link_below(self.root, path), self.pictures.number(path))
        mark, said = marks.get(path), words.get(path, "")
        if mark is None:
            return Tile(photo, said)
        return Tile(photo, said, _proposal(mark), mark.action.value)

    def _class_of(self, path: str) -> str:
        """Return the class of a photo that cannot be read: the innermost of its folders that is one."""
        known = set(self.examination.photos.dataset.class_names)
        return next((part for part in reversed(PurePosixPath(path).parts[:-1]) if part in known), "")


def _proposal(mark: Mark) -> str:
    return {Action.KEEP: "keep", Action.REMOVE: "remove", Action.RELABEL: f"move to {mark.class_name}"}[mark.action]
