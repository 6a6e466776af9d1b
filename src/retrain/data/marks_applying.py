"""Carries out marks on photos, and reverts that: all is checked first, and each move is listed before it is made."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from retrain.data import mark_places, marks_done
from retrain.data.mark_places import Places
from retrain.data.marks import Action, Mark, Marks
from retrain.data.marks_done import Entry
from retrain.data.split import DEFAULT_SPLIT, SplitRule
from retrain.errors import MarksError, printable
from retrain.files import lock, sha256_of
from retrain.storage.folders import Folder

_AGAIN = "Those before it were moved; fix this and run the same command again"


@dataclass
class Outcome:
    """What was done: how many photos of each action, how many were done before, and those that could not be.

    `gone` are paths of photos that are no longer there; `others` those where another photo lies now, which is left
    alone. `removed` is the folder of removed photos. `lists` are the files of what was done for these marks.
    """

    removed: Path
    done: Counter[Action] = field(default_factory=Counter)
    before: int = 0
    gone: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)


def apply(image_dir: Folder, marks: Marks, rule: SplitRule = DEFAULT_SPLIT) -> Outcome:
    """Carry out marks: remove photos into `<image_dir>_removed`, relabel others into the folder of another class.

    Killed at any moment, the same call finishes it; called again, it changes nothing. Nothing is overwritten: where a
    name is taken, the photo gets a number, and where `rule` would put it into another split under its new path, too.

    Raises:
        MarksError: A mark is refused, before anything is moved; or a photo cannot be moved, and those before it were.
        DatasetError: The image folder is none, or cannot be read.
    """
    places = mark_places.places(image_dir, rule)
    with _told(places, "Nothing was moved"):
        there = [mark for mark in marks.marks if places.check(mark)]
    with ExitStack() as opened, _told(places):
        if not there and not places.lists.is_dir():  # and nothing was ever done
            return Outcome(places.removed, gone=[mark.path for mark in marks.marks])
        places.lists.mkdir(exist_ok=True)
        lock(places.lists, opened)
        run = _Applying(places, marks)
        listed = set(there)
        for mark in marks.marks:
            run.carry_out(mark, is_listed=mark in listed)
        return run.outcome


class _Applying:
    """One call of `apply`, while it alone may move the photos."""

    def __init__(self, places: Places, marks: Marks) -> None:
        self.outcome = Outcome(places.removed)
        self._places, self._marks_sha256 = places, marks.sha256
        lists = marks_done.lists(places.lists)
        self._own = next((done for done in lists if done.marks_sha256 == marks.sha256), None)
        # Of entries for one mark, that of these marks' own list counts, and the last of it.
        ordered = [*(done for done in lists if done is not self._own), *([self._own] if self._own else [])]
        self._entries = {entry.mark: (done, entry) for done in ordered for entry in done.entries}
        # No photo takes the place that another one left or is to get: each list can be undone for itself.
        moved = [entry for done in lists for entry in done.entries if entry.place]
        self._taken = {path for entry in moved for path in places.resolved(entry.mark, entry.place)}
        self._taken |= {places.image_dir / mark.path for mark in marks.marks}
        if self._own:
            self.outcome.lists.append(self._own.file)
            mark_places.remove_drafts(self._taken)

    def carry_out(self, mark: Mark, *, is_listed: bool) -> None:
        """Do what is left to do for a mark; `is_listed` if its folder listed the photo before."""
        source = self._places.image_dir / mark.path
        done, entry = self._entries.get(mark, (None, None))
        if entry and done and done is not self._own and done.file not in self.outcome.lists:
            self.outcome.lists.append(done.file)
        place = self._places.resolved(mark, entry.place)[1] if entry and entry.place else None
        if not is_listed or not source.is_file():
            self._absent(mark, place)
        elif entry and sha256_of(source) != entry.sha256:
            self.outcome.others.append(mark.path)
        elif self._places.is_in_class(mark) or (entry and not place):
            self.outcome.before += 1
        elif entry and place and mark_places.is_photo(place, entry.sha256):
            mark_places.drop_copy(source, place)  # it was killed between the two steps of moving to another file system
            self.outcome.done[mark.action] += 1
        elif place and done is self._own and not place.exists():
            mark_places.move(source, place)  # it was killed before that
            self.outcome.done[mark.action] += 1
        else:
            self._begin(mark, source)

    def _absent(self, mark: Mark, place: Path | None) -> None:
        if place and place.is_file():
            self.outcome.before += 1
        else:
            self.outcome.gone.append(mark.path)

    def _begin(self, mark: Mark, source: Path) -> None:
        if self._own is None:
            self._own = marks_done.create(self._places.lists, self._places.image_dir.name, self._marks_sha256)
            self.outcome.lists.append(self._own.file)
        place = None if mark.action is Action.KEEP else self._places.place_of(mark, self._taken)
        where = self._places.below(mark, place) if place else ""
        self._own.add(Entry(mark, where, sha256_of(source)))
        if place:
            mark_places.move(source, place)
        self.outcome.done[mark.action] += 1


def undo(image_dir: Folder, file: Path) -> Outcome:
    """Move the photos of a list of what was done back to where they were; raises as `apply` does.

    Where another photo has taken the place of one, or lies where it was moved to, it is left alone.
    """
    places = mark_places.places(image_dir, DEFAULT_SPLIT)
    if Path(os.path.realpath(file)).parent != places.lists:
        what = f"no list of what was done in {places.image_dir.name}: those lie in {places.lists}"
        raise MarksError(printable(f"{file} is {what}. Nothing was moved."))
    with ExitStack() as opened, _told(places):
        lock(places.lists, opened)
        done = marks_done.read(file)
        paths = [places.resolved(entry.mark, entry.place) if entry.place else None for entry in done.entries]
        mark_places.remove_drafts(path for pair in paths if pair for path in pair)
        outcome = Outcome(places.removed, lists=[file])
        for entry, pair in reversed(list(zip(done.entries, paths, strict=True))):
            if pair:
                _take_back(entry, *pair, outcome)
            elif not done.undone:
                outcome.done[Action.KEEP] += 1
        for pair in paths:
            if pair and pair[1].is_relative_to(places.removed):
                mark_places.remove_empty(pair[1].parent, places.removed)
        if not outcome.others and not done.undone:
            done.end()
        return outcome


def _take_back(entry: Entry, source: Path, place: Path, outcome: Outcome) -> None:
    if not place.exists():
        if mark_places.is_photo(source, entry.sha256):
            outcome.before += 1
        else:
            outcome.gone.append(entry.mark.path)
    elif not mark_places.is_photo(place, entry.sha256):
        outcome.others.append(entry.mark.path)
    elif mark_places.is_photo(source, entry.sha256):
        mark_places.drop_copy(place, source)  # it was killed between the two steps of moving to another file system
        outcome.done[entry.mark.action] += 1
    elif os.path.lexists(source):
        outcome.others.append(entry.mark.path)
    else:
        mark_places.move(place, source)
        outcome.done[entry.mark.action] += 1


@contextmanager
def _told(places: Places, advice: str = _AGAIN) -> Iterator[None]:
    """Say in one line what the system refuses, and what to do about that."""
    try:
        yield
    except OSError as error:
        what = f"cannot move photos of {places.image_dir}: {error.filename or places.lists}: {error.strerror}"
        raise MarksError(printable(f"{what}. {advice}.")) from error
