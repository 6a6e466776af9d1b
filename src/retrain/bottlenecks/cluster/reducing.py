"""The reducer: the one place where what workers committed enters the store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrain import workers
from retrain.bottlenecks.cluster.ledger import DamagedPartError, Ledger
from retrain.bottlenecks.cluster.parts import Commit
from retrain.bottlenecks.photos import NO_STAMP
from retrain.bottlenecks.store import KEY_BYTES, Entry, Store
from retrain.errors import UsageError
from retrain.storage.folders import RemoteFolder, folder

_FETCHERS = 4  # threads that read parts while others are merged


@dataclass(frozen=True)
class Fetched:
    """A commit and its results, None for what is damaged, or `missing`: it is computed again."""

    commit: Commit | None = None
    entries: Sequence[Entry] | None = None
    missing: bool = False


@dataclass(frozen=True)
class Reducer:
    """Merges commits of a ledger into a store, each in one transaction, and twice to no effect.

    Parts and commits on a disk go once they are merged. Those at a URL stay for other machines, and the store
    remembers which it has; but not those of photos that could not be read for now.
    """

    store: Store
    ledger: Ledger

    @property
    def keeps(self) -> bool:
        """Return whether what was merged stays."""
        return isinstance(self.ledger.folder, RemoteFolder)

    def fetch(self, shard_id: str) -> Fetched:
        """Read what a worker committed; for any thread."""
        try:
            return self._fetch(self.ledger.commit(shard_id))
        except FileNotFoundError:
            return Fetched(missing=True)
        except DamagedPartError:
            return Fetched()

    def merge(self, commit: Commit, entries: Sequence[Entry]) -> list[int | None]:
        """Store results, and return the row of each, None for those that have a reason, or were lost meanwhile.

        Raises:
            StoreError: The store cannot be written.
        """
        seen = self.store.known([entry.key for entry in entries if entry.vector is not None])
        new = []
        for entry in entries:
            key = entry.key[:KEY_BYTES]
            new.append(replace(entry, vector=None) if key in seen else entry)
            if entry.vector is not None:
                seen.add(key)
        rows = self.store.put(folder(commit.images), new, commit=commit.id)
        if not self.keeps or any(entry.stamp == NO_STAMP for entry in entries):  # which may go well the next time
            self.ledger.withdraw(commit.id, commit.part)
        return rows

    def merge_all(self, ids: list[str]) -> int:
        """Merge the commits of some shards and return how many variants that were; damaged ones make way.

        Later commits come last: they saw the photos as they are now.

        Raises:
            StoreError: The store cannot be written.
        """
        if self.keeps:
            merged = self.store.merged(ids)
            ids = [shard_id for shard_id in ids if shard_id not in merged]
        found = dict(self.ledger.commits(ids))
        commits = sorted(filter(None, found.values()), key=lambda commit: commit.time)
        damaged = [shard_id for shard_id, commit in found.items() if commit is None]
        count = 0
        threads = min(_FETCHERS, len(commits))
        for fetched in workers.map_in_order(lambda: self._fetch, commits, threads=threads, waiting=2 * _FETCHERS):
            if fetched.commit and fetched.entries is not None:
                self.merge(fetched.commit, fetched.entries)
                count += len(fetched.entries)
            elif fetched.commit:
                damaged.append(fetched.commit.id)
        for shard_id in damaged:
            self.ledger.withdraw(shard_id, None)
        return count

    def _fetch(self, commit: Commit) -> Fetched:
        try:
            folder(commit.images)
            return Fetched(commit, self.ledger.entries(commit, self.store.dimension))
        except (DamagedPartError, UsageError):
            return Fetched(commit)


def merge_left_overs(ledger: Ledger, folder: Path, dimension: int) -> int:
    """Merge what workers of earlier runs, or of other machines, committed, and return how many variants that were.

    Args:
        ledger: Where commits are; parts that belong to none, and are old, are removed.
        folder: That of the store, which is made if there are commits.
        dimension: Of the vectors.

    Raises:
        StoreError: The store cannot be used.
    """
    ids, count = ledger.ids(), 0
    if ids:
        with Store(folder, dimension=dimension) as store:
            count = Reducer(store, ledger).merge_all(ids)
    ledger.remove_abandoned(set(ids))
    return count
