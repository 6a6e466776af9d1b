"""A remote folder of photos as it was listed: answers what `layout` asks of a folder, without asking the server again.

The class folders are listed at the same time, for a listing comes a thousand names at a time, one page after another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from retrain import workers
from retrain.data import image_files
from retrain.errors import DatasetError
from retrain.storage import access
from retrain.storage.folders import RemoteFolder
from retrain.storage.interface import Entries
from retrain.storage.listings import Listing

OnListed = Callable[[str, Sequence[str]], None]  # a folder below the image folder, and some of its files
_AT_ONCE = 16  # listings


@dataclass(frozen=True)
class Tree:
    """The visible files of a remote folder.

    `entries` are those of the image folder, "", and of the folders of a split; `listings` have all files of every
    other folder in these.
    """

    folder: RemoteFolder
    entries: dict[str, Entries] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)


@dataclass(frozen=True)
class ListedFolder:
    """A folder, or a file, in a tree, by its path below the image folder."""

    tree: Tree
    path: str = ""

    def __str__(self) -> str:
        return str(self.tree.folder / self.path if self.path else self.tree.folder)

    def __truediv__(self, name: str) -> "ListedFolder":
        return ListedFolder(self.tree, f"{self.path}/{name}" if self.path else name)

    @property
    def name(self) -> str:
        """Return the last part of its path."""
        return self.path.rpartition("/")[2] or self.tree.folder.name

    def folders(self) -> list[str]:
        """Return the sorted names of the folders in it."""
        if self.path in self.tree.entries:
            return self.tree.entries[self.path].folders
        return sorted({rest.partition("/")[0] for rest in self._rests() if "/" in rest})

    def files(self) -> list[str]:
        """Return the sorted names of the files in it."""
        if self.path in self.tree.entries:
            return [file.path.rpartition("/")[2] for file in self.tree.entries[self.path].files]
        return sorted(rest for rest in self._rests() if "/" not in rest)

    def paths(self) -> Sequence[str]:
        """Return the sorted paths of all files below it, relative to the image folder."""
        unit = self._unit()
        if unit is not None:
            listing = self.tree.listings[unit]
            return listing.paths if unit == self.path else listing.below(self.path)
        found = [file.path for file in self.tree.entries[self.path].files] if self.path in self.tree.entries else []
        for name, listing in self.tree.listings.items():
            if not self.path or name.startswith(f"{self.path}/"):
                found += listing.paths
        return sorted(found)

    def is_image(self) -> bool:
        """Return whether the file begins like an image; False if it cannot be read."""
        return image_files.is_image(self.tree.folder / self.path)

    def _unit(self) -> str | None:
        """Return the listing that holds all that is below this folder, None for the folders above the listings."""
        parts = self.path.split("/")
        names = ("/".join(parts[:count]) for count in (1, 2))
        return next((name for name in names if name in self.tree.listings), None)

    def _rests(self) -> Iterator[str]:
        start = len(self.path) + 1 if self.path else 0
        return (path[start:] for path in self.paths())


def list_tree(folder: RemoteFolder, is_split: Callable[[str], bool], on_listed: OnListed | None = None) -> ListedFolder:
    """Return a remote folder as it is now, and let `storage.access.stamp_of` answer for its files.

    Args:
        folder: The image folder.
        is_split: Whether a folder of this name may be one of a split, whose folders are then classes.
        on_listed: Called with some consecutive sorted paths of a class folder as they arrive, and with none at its
            end, from several threads; `stamp_of` answers for their files then.

    Raises:
        DatasetError: It may not be listed.
        StorageError: The storage does not answer.
    """
    storage = access.of(folder)
    tree = Tree(folder)
    try:
        tree.entries[""] = _visible(storage.entries())
        units = []
        for name in tree.entries[""].folders:
            if not is_split(name):
                units.append(name)
                continue
            tree.entries[name] = _visible(storage.entries(name))
            units += [f"{name}/{each}" for each in tree.entries[name].folders]

        def open_lister() -> Callable[[str], tuple[str, Listing]]:
            return lambda unit: (unit, _list(folder, unit, on_listed))

        access.remember(folder, {})
        threads = min(_AT_ONCE, max(1, len(units)))
        tree.listings.update(workers.map_in_order(open_lister, units, threads=threads, waiting=max(1, len(units))))
    except FileNotFoundError:  # of the whole folder, or removed meanwhile: an empty one is said to be none
        tree.entries.setdefault("", Entries([], []))
    except OSError as error:
        raise DatasetError(f"cannot read the folder {folder}: {error.strerror}. Check its permissions.") from error
    loose = {name: Listing() for name in tree.entries if name}
    for name, listing in loose.items():
        listing.add(tree.entries[name].files)
    access.remember(folder, {**tree.listings, **loose})
    return ListedFolder(tree)


def _list(folder: RemoteFolder, unit: str, on_listed: OnListed | None) -> Listing:
    listing, storage = Listing(), access.of(folder)

    def tell(paths: Sequence[str]) -> None:
        if on_listed and paths:
            access.add_listing(folder, unit, listing)
            on_listed(unit, paths)

    for page in storage.pages(unit):
        files = [file for file in page if image_files.is_visible(file.path, unit)]
        listing.add(files)
        if storage.sorted_pages:
            tell([file.path for file in files])
    listing.sort()
    if not storage.sorted_pages:
        tell(listing.paths)
    if on_listed:
        on_listed(unit, [])
    return listing


def _visible(entries: Entries) -> Entries:
    return Entries(
        [name for name in entries.folders if not name.startswith(".")],
        [file for file in entries.files if not file.path.rpartition("/")[2].startswith(".")],
    )
