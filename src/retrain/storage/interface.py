"""What every storage can do, on this machine and at URLs: list, read and write the files of a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from retrain.storage.stamps import Stamp


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in a listing: its path below the folder of the storage, "/"-separated."""

    path: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Entries:
    """What lies in a folder itself: the sorted names of folders in it, and its files sorted by path."""

    folders: list[str]
    files: list[Listed]


class Storage(Protocol):
    """A folder whose files are read and written by their paths below it; for any thread.

    What is not there or may not be used raises the built-in `OSError` that says so (`FileNotFoundError`,
    `PermissionError`). What a later attempt may change is tried again with growing pauses, and then raises
    `StorageError`, as does a storage that cannot be used at all.
    """

    def entries(self, below: str = "") -> Entries:
        """Return what lies in a folder itself; `FileNotFoundError` where there is none, which not all storages know."""

    def folders(self, below: str = "") -> list[str]:
        """Return the sorted names of the folders in a folder."""

    def pages(self, below: str = "") -> Iterator[list[Listed]]:
        """Yield the files below a folder, at any depth, as they arrive, some at a time."""

    @property
    def sorted_pages(self) -> bool:
        """Return whether `pages` come sorted by path."""

    def stamp(self, path: str) -> Stamp:
        """Return the stamp of a file."""

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return the content of a file; `OSError` (EFBIG) for one of more than `limit` bytes or `--max_file_size`."""

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file, fewer of a shorter one."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | OSError]:
        """Return the content of each file, read at the same time where the protocol can; or why it cannot be used."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file, with the folders above it, in place of any other one."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file, completely or not at all; return False, and change nothing, where there is one already.

        One that holds `data` already may be taken for this one: those who create a file write different ones.
        """

    def remove(self, path: str) -> None:
        """Remove a file, which need not exist."""
