"""The photos of a page as values for its templates: each picture goes into the page once, wherever it is shown."""

import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from retrain.evaluation.evidence import Evidence, PhotoEvidence
from retrain.evaluation.report import Report
from retrain.storage.folders import Folder, RemoteFolder

CARDS_IN_SIGHT = 12
_SAMPLES = 6
_BARS = 3
_LISTED_AT_MOST = 60  # names of misclassified photos, where there are no pictures
_NAMES_AT_MOST = 1000  # of misclassified photos without pictures, in the cells of the confusion matrix


class Pictures:
    """The pictures of a page, as long as there is room for them, in the order in which they are asked for."""

    def __init__(self, files: Mapping[str, bytes], room: int) -> None:
        """Take JPEG files by their keys, and the bytes that they may take in the page."""
        self._files, self._room = files, room
        self._numbers: dict[str, int] = {}
        self._left_out: set[str] = set()

    def number(self, key: str | None) -> int | None:
        """Return under which number a picture is in the page, None where there is none or no room."""
        if key is None or key not in self._files or key in self._left_out:
            return None
        if key not in self._numbers:
            size = 4 * len(self._files[key]) // 3 + 4
            if size > self._room:
                self._left_out.add(key)
                return None
            self._room -= size
            self._numbers[key] = len(self._numbers)
        return self._numbers[key]

    @property
    def left_out(self) -> int:
        """Return how many pictures there was no room for."""
        return len(self._left_out)

    def embedded(self) -> list[str]:
        """Return the pictures as data URLs, in the order of their numbers."""
        return [f"data:image/jpeg;base64,{b64encode(self._files[key]).decode()}" for key in self._numbers]


@dataclass(frozen=True)
class Photo:
    """A photo in a page: its path as text and as JSON (which holds any name), its class, a link and a picture."""

    path: str
    key: str
    true: str
    link: str
    picture: int | None


@dataclass(frozen=True)
class Card:
    """A test photo with its scores, where the network looked, and the training photos nearest to it."""

    photo: Photo
    scores: Sequence[tuple[str, float]]
    attention: int | None
    neighbours: Sequence[tuple[Photo, float]]

    @property
    def is_right(self) -> bool:
        """Return whether the class that was given is the true one."""
        return bool(self.scores) and self.scores[0][0] == self.photo.true

    @property
    def bars(self) -> list[tuple[str, float]]:
        """Return the scores to draw: the best three, and that of the true class where it is none of them."""
        return [row for place, row in enumerate(self.scores) if place < _BARS or row[0] == self.photo.true]


@dataclass(frozen=True)
class Cell:
    """The photos of one cell of the confusion matrix; `more` of them are not in the page."""

    anchor: str
    true: str
    predicted: str
    count: int
    photos: Sequence[Photo]
    more: int


def link(image_dir: Folder, folder: Path) -> str:
    """Return the link from a page in a folder to the image folder; of photos elsewhere, the full address."""
    if isinstance(image_dir, RemoteFolder):
        return f"{image_dir.scheme}://{quote(os.fsencode(str(image_dir).partition('://')[2]), safe='/@:')}"
    target = image_dir.resolve()
    try:
        return quote(os.fsencode(Path(os.path.relpath(target, folder.resolve())).as_posix()))
    except ValueError:  # Windows: no way from one drive to another
        return target.as_uri()


class Album:
    """Makes the photos of a page."""

    def __init__(self, evidence: Evidence, pictures: Pictures, image_dir: Folder, folder: Path) -> None:
        """Take what is known of single photos; `folder` is that of the page, from where it links to photos."""
        self._evidence, self._pictures = evidence, pictures
        self.folder = str(image_dir)  # as it was named, and is named again to carry out marks
        self.is_remote = isinstance(image_dir, RemoteFolder)
        self.title = image_dir.resolve().name or str(image_dir)
        self._root = link(image_dir, folder)

    def photo(self, path: str, true: str) -> Photo:
        """Return a photo of a class, by its path below the image folder."""
        place = f"{self._root}/{quote(os.fsencode(Path(path).as_posix()))}"
        return Photo(path, json.dumps(path), true, place, self._pictures.number(path))

    def card(self, row: PhotoEvidence, *, neighbours: bool = True) -> Card:
        """Return a test photo with all that is known of it."""
        photo = self.photo(row.path, row.true)
        near = [(self.photo(each.path, each.class_name), each.similarity) for each in row.neighbours if neighbours]
        return Card(photo, row.scores, self._pictures.number(row.attention), near)

    def samples(self) -> list[Card]:
        """Return a few test photos, of different classes where there are, two of them wrong where there are."""
        wrong = self._evidence.wrong[:2]
        first_of_class = {row.true: row for row in reversed(self._evidence.right)}
        others = [row for row in self._evidence.right if first_of_class[row.true] is not row]
        right = [row for row in self._evidence.right if first_of_class[row.true] is row] + others
        return [self.card(row, neighbours=False) for row in [*right[: _SAMPLES - len(wrong)], *wrong]]

    def wrong(self) -> list[Card]:
        """Return the misclassified photos that pictures were made of, most confidently wrong first."""
        return [self.card(row) for row in self._evidence.wrong]

    def right(self) -> list[tuple[str, list[Card]]]:
        """Return a few photos of each class that were right."""
        groups: dict[str, list[Card]] = {}
        for row in self._evidence.right:
            groups.setdefault(row.true, []).append(self.card(row, neighbours=False))
        return list(groups.items())

    def listed(self, report: Report) -> list[tuple[Photo, str, float]]:
        """Return misclassified photos without a card, the surest 60, with the class and the score that were given."""
        shown = {row.path for row in self._evidence.wrong}
        rows = [row for row in report.misclassified if row.path not in shown]
        rows = sorted(rows, key=lambda row: -row.score)[:_LISTED_AT_MOST]
        return [(self.photo(row.path, row.true), row.predicted, row.score) for row in rows]

    def cells(self, report: Report) -> dict[tuple[int, int], Cell]:
        """Return the cells of the confusion matrix that have photos to show, those off the diagonal first."""
        names = report.class_names
        ids = {name: number for number, name in enumerate(names)}
        paths: dict[tuple[int, int], dict[str, None]] = {
            cell: dict.fromkeys(shown) for cell, shown in self._evidence.cells.items() if shown
        }
        for row in report.misclassified[:_NAMES_AT_MOST]:
            paths.setdefault((ids[row.true], ids[row.predicted]), {})[row.path] = None
        cells = {}
        for true, predicted in sorted(paths, key=lambda cell: (cell[0] == cell[1], cell)):
            shown = [self.photo(path, names[true]) for path in paths[true, predicted]]
            count = report.confusion[true][predicted]
            more, anchor = max(0, count - len(shown)), f"cell-{true}-{predicted}"
            cells[true, predicted] = Cell(anchor, names[true], names[predicted], count, shown, more)
        return cells
