"""The photos that arguments name, one by one, while folders are still being listed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.data import image_files
from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.stamps import Stamp


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as it was named, and what identifies its content; None where it is not known."""

    path: Folder
    stamp: Stamp | None = None


def photos_of(words: Sequence[str], listed: Iterable[Folder] = ()) -> Iterator[Photo]:
    """Yield the photos that files, folders and patterns name, as in `image_files.expand_paths`, then those of a list.

    Raises:
        UsageError: A word names no images.
        DatasetError: A folder that cannot be read.
        StorageError: A remote folder cannot be read.
    """
    for word in words:
        named = False
        for photo in _photos_of(word):
            named = True
            yield photo
        if not named:
            raise image_files.no_images(word)
    for path in listed:
        yield Photo(path)


def _photos_of(word: str) -> Iterator[Photo]:
    path = image_files.named(word)
    if isinstance(path, RemoteFolder):
        for found, stamp in image_files.remote_images(path):
            yield Photo(found, stamp)
    elif path.is_dir():
        for image in image_files.images_below(path):
            yield Photo(image)
    else:
        for other in image_files.expand_paths([word]):
            yield Photo(other)


def folders_of(words: Sequence[str]) -> list[Path]:
    """Return the folders and files on this machine that words name, which are no patterns."""
    paths = [path for word in words if isinstance(path := image_files.named(word), Path)]
    return [path.absolute() for path in paths if path.exists()]
