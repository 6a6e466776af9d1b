"""Computes bottlenecks on a cluster: the driver cuts shards, workers compute them, and the reducer merges them."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain.bottlenecks import computing
from retrain.bottlenecks.cluster import reducing, shards
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.merging import Merged, Merging, Runs
from retrain.bottlenecks.cluster.reducing import Reducer
from retrain.bottlenecks.computing import NO_ROW, Advance, ComputeResult, FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.cluster.tasks import Task
from retrain.data.variants import Variant, VariantColumns
from retrain.errors import ClusterError, StoreError, plural
from retrain.storage import access
from retrain.storage.folders import Folder

_ROUNDS = 3  # in which parts may turn out to be damaged


@dataclass(frozen=True)
class ClusterComputing:
    """Computes what an extractor computes, on the workers of a cluster: a `computing.Elsewhere`.

    `parts` is the folder that has a folder for each store; `depth` is how many folders lead to the photos of a class.
    `listing` are the seconds that the listing of the photos took.
    """

    cluster: Runs
    parts: Folder
    depth: int
    say: Callable[[str], None]
    listing: float = 0.0

    def ledger(self, folder: Path) -> Ledger:
        """Return where parts of the store in a folder go; workers are in other folders of their machines."""
        parts = self.parts.absolute() if isinstance(self.parts, Path) else self.parts
        return Ledger(parts / folder.name)

    def merge_left_overs(self, folder: Path, dimension: int) -> int:
        """Merge what is committed and not yet in the store in a folder, and return how many variants that were."""
        return reducing.merge_left_overs(self.ledger(folder), folder, dimension)

    def merging(self, extractor: FeatureExtractor, store: Store) -> Merging:
        """Return what runs shards and merges their results into a store."""
        return Merging(self.cluster, extractor, Reducer(store, self.ledger(store.folder)))

    def __call__(
        self,
        variants: Sequence[Variant],
        todo: Sequence[int],
        *,
        extractor: FeatureExtractor,
        store: Store,
        advance: Advance,
    ) -> ComputeResult:
        """Return what `computing.compute` returns. Photos that have a vector of an older cache are read here.

        Raises:
            ClusterError: Some shards failed; all others are stored.
            StoreError: The store, or the folder of the parts, cannot be used.
        """
        old = [i for i in todo if not variants[i].copy and extractor.legacy_vector(variants[i].path) is not None]
        here = computing.compute_here(variants, old, extractor=extractor, store=store)
        run = _Run(self, variants, extractor, store)
        rest = sorted(set(todo).difference(old)) if old else todo
        run.compute(rest, lambda done: advance(done + len(old), len(todo)))
        rows, rejected = np.maximum(here.rows, run.rows), here.rejected | run.rejected
        return ComputeResult(rows, rejected, run.computed + here.computed, here.legacy, len(todo))


class _Run:
    """One call of a `ClusterComputing`, with its results so far."""

    def __init__(
        self, owner: ClusterComputing, variants: Sequence[Variant], extractor: FeatureExtractor, store: Store
    ) -> None:
        self._owner, self._variants, self._extractor, self._store = owner, variants, extractor, store
        self.rows = np.full(len(variants), NO_ROW, np.int64)
        self.rejected: dict[str, str] = {}
        self.computed = 0
        self._done = 0
        self._merging = owner.merging(extractor, store)
        self._pending: dict[str, list[int]] = {}  # shard -> its variants

    def compute(self, todo: Sequence[int], advance: Callable[[int], None]) -> None:
        """Compute the variants at some indices; `advance` is called with how many are done."""
        started, merging = time.perf_counter(), self._merging
        for _ in range(_ROUNDS):
            if not todo:
                break
            again: list[int] = []
            for merged in merging.run(self._tasks(todo)):
                again += self._take(merged)
                advance(self._done)
                if news := merging.summary.news():
                    self._owner.say(news)
            for shard in merging.damaged:
                again += self._pending.pop(shard.id)
            todo = self._still_missing(sorted(again))
        if todo:
            path = self._variants[todo[0]].path
            raise StoreError(
                f"{merging.reducer.ledger.folder} does not keep what workers write: the part with {path} was damaged "
                f"{_ROUNDS} times. Check the disk, or give another --bottleneck_dir."
            )
        if merging.summary.photos:
            self._owner.say(merging.summary.text(time.perf_counter() - started, self._owner.listing))
        if merging.failures:
            (name, reason), more = merging.failures[0], len(merging.failures) - 1
            others = f" {plural(more, 'other shard')} failed, too." if more else ""
            raise ClusterError(
                f"the photos {name} could not be computed: {reason}.{others} All else is stored: run again, without "
                f"such photos if they are the reason."
            )

    def _tasks(self, todo: Sequence[int]) -> Iterator[Task]:
        extractor, variants = self._extractor, self._variants
        paths = variants.paths if isinstance(variants, VariantColumns) else (variant.path for variant in variants)
        stamp = functools.partial(access.stamp_of, extractor.image_dir)
        for indices in shards.cut(paths, todo, depth=self._owner.depth):
            some = [variants[index] for index in indices]
            shard = shards.shard_of(some, extractor, self._store.folder.name, stamp)
            self._pending[shard.id] = indices
            yield Task(shard.name, shard)

    def _take(self, merged: Merged) -> list[int]:
        """Keep the rows of a shard, and return the variants that another run has found damaged meanwhile."""
        lost, indices = [], self._pending.pop(merged.shard.id)
        for index, row, entry in zip(indices, merged.rows, merged.entries, strict=True):
            if row is not None:
                self.rows[index] = row
            elif entry.reason is not None:
                self.rejected[self._variants[index].path] = entry.reason
            else:
                lost.append(index)
        self.computed += sum(entry.vector is not None for entry in merged.entries)
        self._done += len(indices)
        return lost

    def _still_missing(self, indices: list[int]) -> list[int]:
        """Return which of some variants the store lacks still, and take what it has by now from other runs."""
        some = [self._variants[index] for index in indices]
        known, todo = computing.missing(some, extractor=self._extractor, store=self._store)
        self.rows[indices] = known.rows
        self.rejected |= known.rejected
        return [indices[number] for number in todo]
