"""A folder on this machine as a storage."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from retrain.errors import StorageError
from retrain.files import aside, open_regular, read_regular, write_atomically
from retrain.storage.interface import Entries, Listed
from retrain.storage.stamps import Stamp

_WHOLE = 2**63 - 1
_PAGE = 1000


class LocalStorage:
    """Implements `interface.Storage` for a folder on this machine."""

    sorted_pages = False  # sorted within each folder

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, below: str = "") -> Entries:
        """Return what lies in a folder itself."""
        folders, files = [], []
        with os.scandir(self.folder / below) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    folders.append(entry.name)
                else:
                    path = f"{below}/{entry.name}" if below else entry.name
                    files.append(Listed(path, Stamp.of(entry.stat(follow_symlinks=entry.is_file()))))
        return Entries(folders, files)

    def folders(self, below: str = "") -> list[str]:
        """Return the sorted names of the folders in a folder."""
        with os.scandir(self.folder / below) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def pages(self, below: str = "") -> Iterator[list[Listed]]:
        """Yield the files below a folder, links to folders left out."""
        entries = self.entries(below)
        for start in range(0, len(entries.files), _PAGE):
            yield entries.files[start : start + _PAGE]
        for name in entries.folders:
            path = f"{below}/{name}" if below else name
            if not (self.folder / path).is_symlink():
                yield from self.pages(path)

    def stamp(self, path: str) -> Stamp:
        """Return the stamp of a file."""
        return Stamp.of((self.folder / path).stat())

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return the content of a regular file."""
        return read_regular(self.folder / path, _WHOLE if limit is None else limit)

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a regular file."""
        with open_regular(self.folder / path) as file:
            return file.read(count)

    def read_many(self, paths: Sequence[str]) -> list[bytes | OSError]:
        """Return the content of each file, or why it cannot be used."""
        return [self._read_or_error(path) for path in paths]

    def _read_or_error(self, path: str) -> bytes | OSError:
        try:
            return self.read(path)
        except OSError as error:
            return error

    def write(self, path: str, data: bytes) -> None:
        """Write a file, in place of any other one."""
        write_atomically(self.folder / path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file where there is none: aside first, and then a link that no other file makes way for."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = aside(target)
        try:
            draft.write_bytes(data)
            os.link(draft, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise StorageError(
                    f"the file system of {self.folder} knows no hard links, which runs on several machines need there. "
                    f"Give a folder on another one, or a URL."
                ) from error
            raise
        finally:
            draft.unlink(missing_ok=True)
        return True

    def remove(self, path: str) -> None:
        """Remove a file, which need not exist."""
        (self.folder / path).unlink(missing_ok=True)
