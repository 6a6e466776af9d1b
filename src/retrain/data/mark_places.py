"""Where marked photos may be moved: never out of a data set, and into no other folder."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retrain.data import layout, mistakes
from retrain.data.dataset import rule_within
from retrain.data.marks import Action, Mark
from retrain.data.split import Split, SplitRule
from retrain.errors import MarksError, did_you_mean, printable
from retrain.storage.folders import Folder, RemoteFolder

_NAME_BYTES = 255  # of a name on most file systems
_TRIES = 1000  # of numbers for a name that leaves a photo in its split


@dataclass
class Places:
    """An image folder and the folders beside it: of removed photos, and of the lists of what was done.

    `splits` are the folders of a ready-made split, and `rule` splits the photos of the others.
    """

    image_dir: Path
    removed: Path
    lists: Path
    splits: dict[str, Split]
    rule: SplitRule
    _listed: dict[Path, frozenset[str]] = field(default_factory=dict)

    def check(self, mark: Mark) -> bool:
        """Return whether the photo of a mark is there.

        Raises:
            MarksError: The path leads elsewhere or names no photo, or there is no such class.
        """
        parts = self._parts(mark.path)
        if not self._is_there(parts):
            return False
        path = self.image_dir.joinpath(*parts)
        if mark.action is not Action.KEEP:
            _check_plain(self.image_dir, parts[:-1])
            _check_plain(self.removed, parts[:-1])
            if path.is_symlink():
                raise _refused(mark.path, "is a link; only photos that lie in the folder themselves are moved")
        if not path.is_file():
            raise _refused(mark.path, f"is {'a folder' if path.is_dir() else 'no regular file'}, and photos are marked")
        if mark.action is Action.RELABEL:
            self._check_class(parts, mark.class_name)
        return True

    def place_of(self, mark: Mark, taken: Collection[Path]) -> Path:
        """Return a free path for the photo of a mark, which leaves a relabelled photo in its split where one does."""
        parts = self._parts(mark.path)
        if mark.action is Action.REMOVE:
            folder, wanted = self.removed.joinpath(*parts[:-1]), None
        else:
            folder = self.image_dir.joinpath(*self._above_class(parts), mark.class_name)
            wanted = self._split(self.image_dir.joinpath(*parts))
        first, number = None, 0
        while True:
            path = folder / _numbered(parts[-1], number)
            number += 1
            if os.path.lexists(path) or path in taken:
                continue
            first = first or path
            if wanted is None or self._split(path) == wanted:
                return path
            if number > _TRIES:
                return first

    def is_in_class(self, mark: Mark) -> bool:
        """Return whether a photo that is relabelled has that class already."""
        parts = self._parts(mark.path)
        return mark.action is Action.RELABEL and parts[len(self._above_class(parts))] == mark.class_name

    def resolved(self, mark: Mark, place: str) -> tuple[Path, Path]:
        """Return the path of a photo and the one where it goes, of a line in a list of what was done.

        Raises:
            MarksError: One leads elsewhere, or they are the same.
        """
        parts, into = self._parts(mark.path), self._parts(place)
        root = self.removed if mark.action is Action.REMOVE else self.image_dir
        _check_plain(self.image_dir, parts[:-1])
        _check_plain(root, into[:-1])
        source, target = self.image_dir.joinpath(*parts), root.joinpath(*into)
        if source == target:
            raise _refused(mark.path, "is listed as moved to where it was")
        return source, target

    def below(self, mark: Mark, place: Path) -> str:
        """Return the path of a place as lists hold it."""
        return place.relative_to(self.removed if mark.action is Action.REMOVE else self.image_dir).as_posix()

    def _parts(self, path: str) -> tuple[str, ...]:
        parts = tuple(path.split("/"))
        # Hidden files, "..", and the nothing before the / of an absolute path.
        if len(parts) < 2 or any(not part or part.startswith(".") for part in parts):
            raise _refused(path, f"is no path of a photo in a class folder of {self.image_dir.name}")
        # Elsewhere, these are letters of a name like any other.
        if os.name == "nt" and any(c in path for c in '\\:*?"<>|'):
            raise _refused(path, "is no path with / between its folders")
        return parts

    def _is_there(self, parts: Sequence[str]) -> bool:
        """Return whether folders list these names: some file systems find a file by names in other cases, too."""
        folder = self.image_dir
        for part in parts:
            if folder not in self._listed:
                try:
                    self._listed[folder] = frozenset(path.name for path in folder.iterdir())
                except OSError:
                    self._listed[folder] = frozenset()
            if part not in self._listed[folder]:
                return False
            folder /= part
        return True

    def _above_class(self, parts: Sequence[str]) -> tuple[str, ...]:
        return tuple(parts[:1]) if self.splits else ()

    @cached_property
    def _classes(self) -> list[str]:
        """Return the classes: of a ready-made split, those of all its parts."""
        parts = [self.image_dir / split for split in self.splits] or [self.image_dir]
        return sorted({name for part in parts for name in layout.folders(part)})

    def _check_class(self, parts: Sequence[str], name: str) -> None:
        path = "/".join(parts)
        if self.splits and (parts[0] not in self.splits or len(parts) < 3):
            raise _refused(path, f"is in no class folder of {', '.join(map(repr, self.splits))}")
        # A part of a split may have no photo of a class, and no folder for it, which moving makes.
        if name not in self._classes:
            problem = f"cannot be relabelled: {name!r} is no class folder of {self.image_dir}"
            raise MarksError(printable(f"{path} {problem}.{did_you_mean(name, self._classes)} Nothing was moved."))
        _check_plain(self.image_dir, [*self._above_class(parts), name])

    def _split(self, path: Path) -> Split:
        parts = path.relative_to(self.image_dir).parts
        if not self.splits:
            return self.rule.assign("/".join(parts))
        own = self.splits[parts[0]]
        rule = rule_within(self.splits.values(), self.rule)
        return rule.assign("/".join(parts[1:])) if own is Split.TRAINING else own


def places(image_dir: Folder, rule: SplitRule) -> Places:
    """Return the places of an image folder, whatever it is called by: beside the folder itself, not beside a link.

    Raises:
        MarksError: There is no folder beside it, or a folder of that name is a link or a file.
        DatasetError: It is no folder, or cannot be read.
    """
    if isinstance(image_dir, RemoteFolder):
        raise MarksError(f"{image_dir} is remote, and marked photos are moved on this machine only. Move them there.")
    if not image_dir.is_dir():
        raise mistakes.no_folder(image_dir)
    real = image_dir.resolve()
    if not real.name:
        raise MarksError(f"{image_dir} is no folder in another one, beside which removed photos could lie.")
    removed, lists = (real.with_name(f"{real.name}_{ending}") for ending in ("removed", "marks"))
    _check_plain(real.parent, [removed.name])
    _check_plain(real.parent, [lists.name])
    return Places(real, removed, lists, layout.split_folders(real), rule)


def _check_plain(root: Path, names: Sequence[str]) -> None:
    """Refuse a path of folders from `root` on where one that is there is a link, or no folder.

    Raises:
        MarksError: Names it.
    """
    for folder in (root, *(root.joinpath(*names[: number + 1]) for number in range(len(names)))):
        if folder.is_symlink():
            raise _refused(str(folder), "is a link, and nothing is moved through links")
        if os.path.lexists(folder) and not folder.is_dir():
            raise _refused(str(folder), "is no folder, where one must be")


def _numbered(name: str, number: int) -> str:
    """Return a name with a number in front of its ending, or of `_nohash_`, behind which nothing counts for a split."""
    if not number:
        return name
    head, mark, rest = name.partition("_nohash_")
    if not mark:
        head, rest = Path(name).stem, Path(name).suffix
    end = f"-{number + 1}{mark}{rest}"
    while head and len(os.fsencode(head + end)) > _NAME_BYTES:
        head = head[:-1]
    return head + end


def _refused(path: str, problem: str) -> MarksError:
    return MarksError(printable(f"{path} {problem}. Nothing was moved."))
