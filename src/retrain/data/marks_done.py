"""The lists of which marks were carried out, which `--undo_marks` reverts.

A list is JSON lines, like the marks: a line is written before its photo is moved, so that a command that is killed
leaves at most a line whose photo has not moved yet. The lists lie beside the image folder, in `<image_dir>_marks`.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from retrain.data import marks
from retrain.data.marks import Action, Mark
from retrain.errors import MarksError, printable

_VERSION = 1
_KIND = "retrain_marks_done"
_NAME = re.compile(r"applied-([1-9]\d{0,8})\.jsonl")


class Entry(NamedTuple):
    """A mark that is carried out on the photo of a SHA-256.

    `place` is where the photo goes, "/"-separated: below the folder of removed photos, or below the image folder
    where it is relabelled; "" where it is kept.
    """

    mark: Mark
    place: str
    sha256: str


@dataclass
class DoneList:
    """A list in a file: what was carried out for the marks of a file that `marks_sha256` identifies."""

    file: Path
    marks_sha256: str
    entries: list[Entry] = field(default_factory=list)
    undone: bool = False

    def add(self, entry: Entry) -> None:
        """Write an entry, before its photo is moved; raise OSError where that cannot be."""
        action, place = entry.mark.action, {"place": entry.place} if entry.place else {}
        class_name = {"class": entry.mark.class_name} if action is Action.RELABEL else {}
        self._append({"path": entry.mark.path, "mark": action, **class_name, **place, "sha256": entry.sha256})
        self.entries.append(entry)

    def note_undone(self) -> None:
        """Write that all of it is undone."""
        self._append({"undone": True})
        self.undone = True

    def _append(self, line: Mapping[str, object]) -> None:
        with self.file.open("r+b") as file:
            # What a killed command, or a full disk, left of a line is none.
            if file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(line).encode() + b"\n")


def create(folder: Path, image_dir: str, marks_sha256: str) -> DoneList:
    """Return a new list in the folder of lists, with a number of its own; raise OSError where it cannot be written."""
    numbers = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    file = folder / f"applied-{max(numbers, default=0) + 1}.jsonl"
    head = {_KIND: _VERSION, "image_dir": image_dir, "marks_sha256": marks_sha256}
    with file.open("xb") as written:
        written.write(json.dumps(head).encode() + b"\n")
    return DoneList(file, marks_sha256)


def lists(folder: Path) -> list[DoneList]:
    """Return the lists in the folder of lists that are not undone, the oldest first.

    Raises:
        MarksError: One cannot be read.
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    numbered = sorted((int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name)))
    found = [read(path) for _, path in numbered]
    return [done for done in found if not done.undone]


def read(file: Path) -> DoneList:
    """Return a list; a last line that is not whole is passed over.

    Raises:
        MarksError: It cannot be read, is no list, or a line is damaged.
    """
    content = marks.content_of(file)
    # A list that was never begun has no first line either: its command was killed before anything was moved.
    if b"\n" not in content and _NAME.fullmatch(file.name):
        return DoneList(file, "", undone=True)
    lines = marks.json_lines(file, content[: content.rfind(b"\n") + 1])
    head = marks.check_kind(file, lines, _KIND, _VERSION)
    done = DoneList(file, str(head.get("marks_sha256")))
    for number, line in lines:
        if line.get("undone") is True:
            done.undone = True
            continue
        where = f"line {number} of {file}"
        mark = marks.parsed(line, where)
        place = "" if mark.action is Action.KEEP else marks.name_in(line, "place", where)
        sha256 = marks.name_in(line, "sha256", where)
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise MarksError(printable(f'{where} is damaged: its "sha256" is {sha256!r}.'))
        done.entries.append(Entry(mark, place, sha256))
    return done
