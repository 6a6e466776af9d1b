"""Opens the storage of a folder, whichever protocol it takes, and tells the stamps of its files."""

import functools
import os
from collections.abc import Mapping

from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.interface import Storage
from retrain.storage.listings import Listing
from retrain.storage.local import LocalStorage
from retrain.storage.remote import RemoteStorage
from retrain.storage.stamps import Stamp


def of(folder: Folder) -> Storage:
    """Return the storage of a folder, the same one for the same URL in one process."""
    return _remote(folder, os.getpid()) if isinstance(folder, RemoteFolder) else LocalStorage(folder)


def remember(folder: RemoteFolder, listings: Mapping[str, Listing]) -> None:
    """Let `stamp_of` answer from listings, each that of a folder below this one, without asking the server."""
    _remote(folder, os.getpid()).listings = dict(listings)  # at once: other threads ask meanwhile


def add_listing(folder: RemoteFolder, below: str, listing: Listing) -> None:
    """Let `stamp_of` answer from the listing of one more folder below this one, which may grow."""
    _remote(folder, os.getpid()).listings[below] = listing


def listed_stamp(folder: RemoteFolder, path: str) -> Stamp | None:
    """Return the stamp of a file below a folder that the last listing has, None without any."""
    return _remote(folder, os.getpid()).listed_stamp(path)


def stamp_of(folder: Folder, path: str) -> Stamp | None:
    """Return the stamp of a file below a folder, as the last listing has it or else as it is now; None without any."""
    try:
        if isinstance(folder, RemoteFolder):
            storage = _remote(folder, os.getpid())
            return storage.listed_stamp(path) or storage.stamp(path)
        return Stamp.of(os.stat(f"{folder}/{path}"))  # noqa: PTH116 (a Path for each of a million files is slow)
    except OSError:
        return None


@functools.lru_cache(maxsize=256)
def _remote(folder: RemoteFolder, process: int) -> RemoteStorage:
    return RemoteStorage(folder)
