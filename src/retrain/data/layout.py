"""Reads how an image folder is laid out: which folders are classes, which are a split, what is left over."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrain.data import image_files
from retrain.data.image_files import has_image_name
from retrain.data.listed import ListedFolder, OnListed
from retrain.data.split import Split
from retrain.errors import DatasetError, plural

Place = Path | ListedFolder
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


def split_folders(image_dir: Place) -> dict[str, Split]:
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

    `on_listed` is called with each class folder on this machine; those of a remote one were told as they arrived.

    `without_images` are class folders in which no file is an image, with what they hold; `links` lead into another
    class; `loose` are images that lie in no class folder. All are paths below the image folder.
    """

    image_dir: Place
    parents: Sequence[Place]
    on_listed: OnListed | None = None
    without_images: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        local = [parent for parent in self.parents if isinstance(parent, Path)]
        paths = [str(parent / name) for parent in local for name in folders(parent)]
        # Of a folder and links to it, the folder is the class.
        self._owners: dict[str, str] = {}
        for path in sorted(paths, key=os.path.islink):
            self._owners.setdefault(os.path.realpath(path), path)
        self._above = {str(above) for real in self._owners for above in Path(real).parents}

    def class_files(self, parent: Place) -> dict[str, Sequence[str]]:
        """Return class name -> sorted paths of its files below the image folder, for folders that hold images."""
        classes = {}
        for name in folders(parent):
            folder = parent / name
            paths = self._class_paths(folder)
            if paths is None:
                continue
            below = self._below(folder)
            if any(map(has_image_name, paths)) or any(is_image(self.image_dir / path) for path in paths):
                classes[name] = paths
                if self.on_listed and isinstance(folder, Path):
                    self.on_listed(below, paths)
            else:
                first = paths[0][len(below) + 1 :] if paths else ""
                held = f"{plural(len(paths), 'file')} such as {first!r}" if paths else "empty"
                self.without_images.append(f"{below!r} ({held})")
        self.find_loose(parent)
        return classes

    def _class_paths(self, folder: Place) -> Sequence[str] | None:
        """Return the sorted paths of the files of a class, None for a link that is not followed."""
        if isinstance(folder, ListedFolder):
            return folder.paths()
        follow = self._follower(str(folder))
        if os.path.islink(folder) and not follow(str(folder)):  # noqa: PTH114 (no error where it may not be entered)
            return None
        below = self._below(folder)
        return sorted(f"{below}/{file}" for file in image_files.files_below(folder, follow))

    def find_loose(self, folder: Place) -> None:
        """Keep the images that lie in a folder of class folders or of a split itself."""
        loose = [folder / name for name in files(folder) if has_image_name(name) or is_image(folder / name)]
        self.loose += map(self._below, loose)

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
            self.links.append(self._below(Path(link)))
            return False

        return follow

    def _below(self, place: Place) -> str:
        """Return a path below the image folder, "/"-separated."""
        if isinstance(place, ListedFolder) or isinstance(self.image_dir, ListedFolder):
            return place.path if isinstance(place, ListedFolder) else ""
        return os.path.relpath(place, self.image_dir).replace(os.sep, "/")


def folders(folder: Place) -> list[str]:
    """Return the sorted names of the visible folders in a folder.

    Raises:
        DatasetError: It cannot be read.
    """
    if isinstance(folder, ListedFolder):
        return folder.folders()
    return sorted(entry.name for entry in _visible(folder) if entry.is_dir())


def quoted(names: Sequence[str]) -> str:
    """Return the first few names in quotation marks, and how many more there are."""
    return shortened([repr(name) for name in names[:_NAMED_AT_MOST]], len(names))


def shortened(texts: Sequence[str], count: int = 0) -> str:
    """Return the first few of `count` texts, those given by default, and how many more there are."""
    more = max(count, len(texts)) - _NAMED_AT_MOST
    return ", ".join(texts[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def class_folders(folder: Place) -> list[str]:
    """Return the sorted names of the folders in a folder that hold images, at any depth."""
    return [name for name in folders(folder) if _holds_image(folder / name)]


def _holds_image(folder: Place) -> bool:
    if isinstance(folder, ListedFolder):
        paths = folder.paths()
        return any(map(has_image_name, paths)) or any(ListedFolder(folder.tree, path).is_image() for path in paths)
    named = any(map(has_image_name, image_files.files_below(folder)))
    return named or any(is_image(folder / file) for file in image_files.files_below(folder))


def is_image(file: Place) -> bool:
    """Return whether a file begins like an image; False if it cannot be read."""
    return file.is_image() if isinstance(file, ListedFolder) else image_files.is_image(file)


def files(folder: Place) -> list[str]:
    """Return the sorted names of the visible files in a folder itself.

    Raises:
        DatasetError: It cannot be read.
    """
    if isinstance(folder, ListedFolder):
        return folder.files()
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
