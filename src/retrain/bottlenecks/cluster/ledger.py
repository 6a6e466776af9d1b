"""The folder where workers leave parts and commits, on a disk that all machines share or at a URL."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from retrain.bottlenecks.cluster.parts import Commit, is_id, unpack
from retrain.bottlenecks.store import Entry
from retrain.errors import StoreError
from retrain.storage import access
from retrain.storage.folders import Folder

_COMMITS, _PARTS = "commits", "parts"
_DAY = 24 * 3600 * 10**9  # nanoseconds; no worker takes so long from its part to its commit
_READ_AT_ONCE = 100  # commits


class DamagedPartError(Exception):
    """A commit is damaged, or its part is not what it says: the shard has to be computed again."""


@dataclass(frozen=True)
class Ledger:
    """Parts and commits of one store, in `folder`; for any thread."""

    folder: Folder

    def is_committed(self, shard_id: str) -> bool:
        """Return whether a whole commit of a shard is there."""
        try:
            self.commit(shard_id)
        except (FileNotFoundError, DamagedPartError):
            return False
        return True

    def commit(self, shard_id: str) -> Commit:
        """Return the commit of a shard.

        Raises:
            FileNotFoundError: There is none.
            DamagedPartError: It is damaged.
        """
        commit = _parsed(shard_id, access.of(self.folder).read(f"{_COMMITS}/{shard_id}"))
        if commit is None:
            raise DamagedPartError(shard_id)
        return commit

    def write_part(self, name: str, data: bytes) -> None:
        """Write a part, of which nothing is known until it is committed.

        Raises:
            StoreError: The folder, or its bucket, is not there or may not be written.
        """
        try:
            access.of(self.folder).write(f"{_PARTS}/{name}", data)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder}: {error.strerror}. Check that its disk or bucket is there and that "
                f"you may write to it, or give another --bottleneck_dir."
            ) from error

    def publish(self, commit: Commit) -> bool:
        """Commit a part that is written; return False, and remove the part, where another worker was first.

        A damaged commit is no commit: it makes way.
        """
        storage, path = access.of(self.folder), f"{_COMMITS}/{commit.id}"
        if storage.create(path, commit.to_json()):
            return True
        if not self.is_committed(commit.id):
            storage.remove(path)
            if storage.create(path, commit.to_json()):
                return True
        storage.remove(f"{_PARTS}/{commit.part}")
        return False

    def entries(self, commit: Commit, dimension: int) -> list[Entry]:
        """Return the results that were committed.

        Raises:
            DamagedPartError: They are not whole.
        """
        try:
            data = access.of(self.folder).read(f"{_PARTS}/{commit.part}")
        except FileNotFoundError as error:
            raise DamagedPartError(commit.part) from error
        if hashlib.sha256(data).hexdigest() != commit.sha256:
            raise DamagedPartError(commit.part)
        try:
            return unpack(data, dimension)
        except ValueError as error:
            raise DamagedPartError(commit.part) from error

    def withdraw(self, shard_id: str, part: str | None) -> None:
        """Remove a commit and then its part: what is left in between is a part that nobody knows."""
        storage = access.of(self.folder)
        storage.remove(f"{_COMMITS}/{shard_id}")
        if part:
            storage.remove(f"{_PARTS}/{part}")

    def ids(self) -> list[str]:
        """Return the ids of all shards that are committed; what else lies there is not ours."""
        names = [path.removeprefix(f"{_COMMITS}/") for path, _ in self._listed(_COMMITS)]
        return list(filter(is_id, names))

    def commits(self, ids: list[str]) -> Iterator[tuple[str, Commit | None]]:
        """Yield the id and the commit of some shards, None for a damaged one; those that are gone are left out."""
        storage = access.of(self.folder)
        for start in range(0, len(ids), _READ_AT_ONCE):
            some = ids[start : start + _READ_AT_ONCE]
            contents = storage.read_many([f"{_COMMITS}/{shard_id}" for shard_id in some])
            for shard_id, content in zip(some, contents, strict=True):
                if isinstance(content, bytes):
                    yield shard_id, _parsed(shard_id, content)
                elif not isinstance(content, FileNotFoundError):
                    raise content

    def remove_abandoned(self, known: set[str]) -> None:
        """Remove the parts, of those not `known`, that workers left when they were killed, a day ago or longer."""
        storage, now = access.of(self.folder), time.time_ns()
        for path, modified in self._listed(_PARTS):
            if path.rpartition("/")[2] not in known and 0 < modified < now - _DAY:
                storage.remove(path)

    def _listed(self, below: str) -> list[tuple[str, int]]:
        """Return path and time of the files in a folder, none where it is missing; drafts are hidden."""
        found: list[tuple[str, int]] = []
        with suppress(FileNotFoundError):
            for page in access.of(self.folder).pages(below):
                found += [(file.path, file.stamp.modified) for file in page]
        return [(path, modified) for path, modified in found if not path.rpartition("/")[2].startswith(".")]


def _parsed(shard_id: str, content: bytes) -> Commit | None:
    try:
        commit = Commit.from_json(content)
    except ValueError:
        return None
    return commit if commit.id == shard_id else None
