"""Opens the storage of a folder, whichever protocol it takes."""

import functools
import os

from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.interface import Storage
from retrain.storage.local import LocalStorage
from retrain.storage.remote import RemoteStorage


def of(folder: Folder) -> Storage:
    """Return the storage of a folder, the same one for the same URL in one process."""
    return _remote(folder, os.getpid()) if isinstance(folder, RemoteFolder) else LocalStorage(folder)


@functools.lru_cache(maxsize=256)
def _remote(folder: RemoteFolder, process: int) -> Storage:
    return RemoteStorage(folder)
