"""Where marked photos may be moved, never out of a data set or into another folder; moves that overwrite nothing."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from retrain.data import layout, mistakes
from retrain.data.dataset import rule_within
from retrain.data.marks import Action, Mark
from retrain.data.split import Split, SplitRule
from retrain.errors import MarksError, did_you_mean, printable
from retrain.files import aside, remove_stale_drafts, sha256_of
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
            check_plain(self.image_dir, parts[:-1])
            check_plain(self.removed, parts[:-1])
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
        check_plain(self.image_dir, parts[:-1])
        check_plain(root, into[:-1])
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
                    self._listed[folder] = frozenset(os.listdir(folder))  # noqa: PTH208
                except OSError:
                    self._listed[folder] = frozenset()
            if part not in self._listed[folder]:
                return False
            folder /= part
        return True

    def _above_class(self, parts: Sequence[str]) -> tuple[str, ...]:
        return tuple(parts[:1]) if self.splits else ()

    def _check_class(self, parts: Sequence[str], name: str) -> None:
        above = self._above_class(parts)
        path = "/".join(parts)
        if self.splits and (parts[0] not in self.splits or len(parts) < 3):
            raise _refused(path, f"is in no class folder of {', '.join(map(repr, self.splits))}")
        folder = self.image_dir.joinpath(*above)
        # A part of a split may have no photo of a class, and no folder for it, which moving makes.
        parts_of_split = [self.image_dir / split for split in self.splits] or [folder]
        classes = sorted({each for part in parts_of_split for each in layout.folders(part)})
        if name not in classes:
            problem = f"cannot be relabelled: {name!r} is no class folder of {self.image_dir}"
            raise MarksError(printable(f"{path} {problem}.{did_you_mean(name, classes)} Nothing was moved."))
        check_plain(folder, [name])

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
    check_plain(real.parent, [removed.name])
    check_plain(real.parent, [lists.name])
    return Places(real, removed, lists, layout.split_folders(real), rule)


def check_plain(root: Path, names: Sequence[str]) -> None:
    """Refuse a path of folders from `root` on where one that is there is a link, or no folder.

    Raises:
        MarksError: Names it.
    """
    for folder in (root, *(root.joinpath(*names[: number + 1]) for number in range(len(names)))):
        if folder.is_symlink():
            raise _refused(str(folder), "is a link, and nothing is moved through links")
        if os.path.lexists(folder) and not folder.is_dir():
            raise _refused(str(folder), "is no folder, where one must be")


def move(source: Path, place: Path) -> None:
    """Move a file to a free path, on another file system too; one that is killed leaves both, or a draft beside.

    Raises:
        OSError: It cannot be moved, or the path is not free.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _put(source, place)
    except OSError as error:  # which may name a draft
        raise OSError(error.errno, error.strerror, str(place)) from error
    try:
        source.unlink()
    except OSError:
        place.unlink()
        raise


def _put(source: Path, place: Path) -> None:
    with suppress(OSError):
        os.link(source, place)  # which, unlike renaming, never overwrites
        return
    # Another file system, or one without such links.
    if os.path.lexists(place):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    draft = aside(place)
    try:
        shutil.copy2(source, draft)
        draft.rename(place)
    finally:
        draft.unlink(missing_ok=True)


def drop_copy(copy: Path, kept: Path) -> None:
    """Remove one of two files of the same content; of two names for one file, on systems that ignore case, none."""
    if not copy.samefile(kept) or copy.stat().st_nlink > 1:
        copy.unlink()


def is_photo(path: Path, sha256: str) -> bool:
    """Return whether a regular file, no link, has a content."""
    return not path.is_symlink() and path.is_file() and sha256_of(path) == sha256


def remove_drafts(paths: Iterable[Path]) -> None:
    """Remove what killed commands left beside some paths."""
    for folder in {path.parent for path in paths}:
        remove_stale_drafts(folder)


def remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder and those above it, up to `root`, that are empty."""
    for above in (folder, *folder.parents):
        if not above.is_relative_to(root):
            return
        try:
            above.rmdir()
        except FileNotFoundError:  # removed before the command was killed
            continue
        except OSError:
            return


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
