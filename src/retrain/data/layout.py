"""Reads how an image folder is laid out: which folders are classes, which are a split, what is left over."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrain.data.image_files import files_below, has_image_name, is_image
from retrain.data.split import Split
from retrain.errors import DatasetError, plural

_NAMED_AT_MOST = 5
_SPLIT_NAME = re.compile(
    r"(?:seg|images?|photos?|data|dataset)?"
    r"(?:(?P<training>train|training|trn)"
    r"|(?P<validation>val|valid|validation|validate|dev|development|eval|evaluation)"
    r"|(?P<testing>tests?|testing|tst|holdout|heldout))"
    r"(?:set|data|dataset|images?|imgs?|photos?|pictures?|samples?|split|folder|dir)?\d*"
)


def split_of(name: str) -> Split | None:
    """Return the split that a folder's name stands for, "Train" or "test_set" say; None for any other name."""
    match = _SPLIT_NAME.fullmatch(re.sub(r"[\W_]", "", name.casefold()))
    return Split(match.lastgroup) if match and match.lastgroup else None


def split_folders(image_dir: Path) -> dict[str, Split]:
    """Return folder name -> split where folders of class folders are a split; else an empty dict.

    A folder of training photos makes a split with one for another split beside it, or with nothing else that holds
    photos. Two classes called "train" and "test" have photos in these folders, and no class folders.

    Raises:
        DatasetError: Folders of a split, without training photos or between class folders.
    """
    names = folders(image_dir)
    splits = {name: split for name in names if (split := split_of(name)) and class_folders(image_dir / name)}
    if not splits:
        return {}
    rest = [name for name in names if name not in splits and _holds_image(image_dir / name)]
    if Split.TRAINING in splits.values() and (len(splits) > 1 or not any(split_of(name) is None for name in rest)):
        return splits
    shared = any(name in rest for folder in splits for name in class_folders(image_dir / folder))
    if shared or (len(splits) > 1 and not rest):
        found = " and ".join(f"{name}/" for name in splits)
        beside = "class folders" if rest else "no folder of training photos"
        raise DatasetError(
            f"{image_dir} has {found}, a split with class folders inside, and {beside} beside it. Put the class "
            f"folders of the training photos into {image_dir / 'train'}, or move the others away."
        )
    return {}


@dataclass
class ClassLister:
    """Lists the files of the class folders in `parents`, which lie in `image_dir`, and keeps what is left out.

    `without_images` are class folders in which no file is an image, with what they hold; `links` lead into another
    class; `loose` are images that lie in no class folder. All are paths below the image folder.
    """

    image_dir: Path
    parents: Sequence[Path]
    without_images: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        paths = [str(parent / name) for parent in self.parents for name in folders(parent)]
        # Of a folder and links to it, the folder is the class.
        self._owners: dict[str, str] = {}
        for path in sorted(paths, key=os.path.islink):
            self._owners.setdefault(os.path.realpath(path), path)
        self._above = {str(above) for real in self._owners for above in Path(real).parents}

    def class_files(self, parent: Path) -> dict[str, list[str]]:
        """Return class name -> sorted file paths relative to the class folder, for folders that hold images."""
        classes = {}
        for name in folders(parent):
            path = str(parent / name)
            follow = self._follower(path)
            if os.path.islink(path) and not follow(path):  # noqa: PTH114 (no error where it may not be entered)
                continue
            paths = sorted(files_below(parent / name, follow))
            if any(map(has_image_name, paths)) or any(is_image(parent / name / file) for file in paths):
                classes[name] = paths
            else:
                held = f"{plural(len(paths), 'file')} such as {paths[0]!r}" if paths else "empty"
                self.without_images.append(f"{self._below(path)!r} ({held})")
        self.find_loose(parent)
        return classes

    def find_loose(self, folder: Path) -> None:
        """Keep the images that lie in a folder of class folders or of a split itself."""
        paths = [(name, folder / name) for name in files(folder)]
        self.loose += [self._below(str(path)) for name, path in paths if has_image_name(name) or is_image(path)]

    def notes(self) -> list[str]:
        """Return sentences about what was left out."""
        notes = []
        if self.without_images:
            notes.append(f"No image that can be read, so not a class: {shortened(self.without_images)}.")
        if self.links:
            notes.append(f"Links into another class are not followed: {quoted(self.links)}.")
        if self.loose:
            count = plural(len(self.loose), "image")
            remedy = "Move each into the folder of its class."
            notes.append(f"{count} in no class folder, so not used: {quoted(self.loose)}. {remedy}")
        return notes

    def _follower(self, own: str) -> Callable[[str], bool]:
        def follow(link: str) -> bool:
            target = os.path.realpath(link)
            owners = (self._owners[above] for above in _upwards(target) if above in self._owners)
            if target not in self._above and all(owner == own for owner in owners):
                return True
            self.links.append(self._below(link))
            return False

        return follow

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self.image_dir).replace(os.sep, "/")


def folders(folder: Path) -> list[str]:
    """Return the sorted names of the visible folders in a folder.

    Raises:
        DatasetError: It cannot be read.
    """
    return sorted(entry.name for entry in _visible(folder) if entry.is_dir())


def quoted(names: Sequence[str]) -> str:
    """Return the first few names in quotation marks, and how many more there are."""
    return shortened([repr(name) for name in names[:_NAMED_AT_MOST]], len(names))


def shortened(texts: Sequence[str], count: int = 0) -> str:
    """Return the first few of `count` texts, those given by default, and how many more there are."""
    more = max(count, len(texts)) - _NAMED_AT_MOST
    return ", ".join(texts[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder that hold images, at any depth."""
    return [name for name in folders(folder) if _holds_image(folder / name)]


def _holds_image(folder: Path) -> bool:
    return any(map(has_image_name, files_below(folder))) or any(is_image(folder / file) for file in files_below(folder))


def files(folder: Path) -> list[str]:
    """Return the sorted names of the visible files in a folder itself.

    Raises:
        DatasetError: It cannot be read.
    """
    return sorted(entry.name for entry in _visible(folder) if not entry.is_dir())


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"cannot read the folder {folder}: {error.strerror}. Check its permissions.") from error


def _upwards(path: str) -> Iterable[str]:
    yield path
    yield from map(str, Path(path).parents)
