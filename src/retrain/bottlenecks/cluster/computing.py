"""Computes bottlenecks on a cluster: the driver cuts shards, workers compute them, and the reducer merges them."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrain.bottlenecks import computing
from retrain.bottlenecks.cluster import reducing, shards, work
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.reducing import Fetched, Reducer
from retrain.bottlenecks.cluster.summary import Summary
from retrain.bottlenecks.computing import NO_ROW, Advance, ComputeResult, FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.cluster.tasks import Outcome, Task
from retrain.data.variants import Variant, VariantColumns
from retrain.errors import ClusterError, StoreError, plural
from retrain.storage.folders import Folder

_ROUNDS = 3  # in which parts may turn out to be damaged
_FETCHERS = 4  # threads that read parts
_WAITING = 8  # parts that are read and not yet merged


class Runs(Protocol):
    """What runs tasks: `retrain.cluster.pool.Cluster`, or this process."""

    def run(self, open_worker: Any, shared: Mapping[str, Any], tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task."""


@dataclass(frozen=True)
class ClusterComputing:
    """Computes what an extractor computes, on the workers of a cluster: a `computing.Elsewhere`.

    `parts` is the folder that has a folder for each store; `depth` is how many folders lead to the photos of a class.
    """

    cluster: Runs
    parts: Folder
    depth: int
    say: Callable[[str], None]

    def ledger(self, folder: Path) -> Ledger:
        """Return where parts of the store in a folder go; workers are in other folders of their machines."""
        parts = self.parts.absolute() if isinstance(self.parts, Path) else self.parts
        return Ledger(parts / folder.name)

    def merge_left_overs(self, folder: Path, dimension: int) -> int:
        """Merge what is committed and not yet in the store in a folder, and return how many variants that were."""
        return reducing.merge_left_overs(self.ledger(folder), folder, dimension)

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
        run = _Run(self, variants, extractor, Reducer(store, self.ledger(store.folder)))
        rest = sorted(set(todo).difference(old))
        run.compute(rest, lambda done: advance(done + len(old), len(todo)))
        rows, rejected = np.maximum(here.rows, run.rows), here.rejected | run.rejected
        return ComputeResult(rows, rejected, run.computed + here.computed, here.legacy, len(todo))


class _Run:
    """One call of a `ClusterComputing`, with its results so far."""

    def __init__(
        self, owner: ClusterComputing, variants: Sequence[Variant], extractor: FeatureExtractor, reducer: Reducer
    ) -> None:
        self._owner, self._variants, self._extractor, self._reducer = owner, variants, extractor, reducer
        self.rows = np.full(len(variants), NO_ROW, np.int64)
        self.rejected: dict[str, str] = {}
        self.computed = 0
        self._done = 0
        self._pending: dict[str, list[int]] = {}  # shard -> its variants
        self._failures: list[tuple[str, str]] = []  # name of a shard, reason
        self._again: list[int] = []
        self._summary = Summary()

    def compute(self, todo: Sequence[int], advance: Callable[[int], None]) -> None:
        """Compute the variants at some indices; `advance` is called with how many are done."""
        started = time.perf_counter()
        for _ in range(_ROUNDS):
            if not todo:
                break
            self._again = []
            self._compute_once(todo, advance)
            todo = self._still_missing(self._again)
        if todo:
            path = self._variants[todo[0]].path
            raise StoreError(
                f"{self._reducer.ledger.folder} does not keep what workers write: the part with {path} was damaged "
                f"{_ROUNDS} times. Check the disk, or give another --bottleneck_dir."
            )
        if self._summary.photos:
            self._owner.say(self._summary.text(time.perf_counter() - started))
        if self._failures:
            (name, reason), more = self._failures[0], len(self._failures) - 1
            others = f" {plural(more, 'other shard')} failed, too." if more else ""
            raise ClusterError(
                f"the photos {name} could not be computed in three attempts: {reason}.{others} All else is stored: "
                f"move such photos away, or run again."
            )

    def _compute_once(self, todo: Sequence[int], advance: Callable[[int], None]) -> None:
        shared = {"shared": work.shared_of(self._extractor, self._reducer.ledger)}
        fetched: deque[tuple[Outcome, Future[Fetched]]] = deque()
        with ThreadPoolExecutor(_FETCHERS) as fetchers:
            for outcome in self._owner.cluster.run(work.open_worker, shared, self._tasks(todo)):
                if outcome.failure is not None:
                    self._pending.pop(outcome.task.value.id)
                    self._failures.append((outcome.task.name, outcome.failure))
                    continue
                fetched.append((outcome, fetchers.submit(self._reducer.fetch, outcome.task.value.id)))
                while fetched and (len(fetched) > _WAITING or fetched[0][1].done()):
                    self._take(*fetched.popleft(), advance)
            while fetched:
                self._take(*fetched.popleft(), advance)

    def _tasks(self, todo: Sequence[int]) -> Iterator[Task]:
        extractor, variants = self._extractor, self._variants
        paths = variants.paths if isinstance(variants, VariantColumns) else (variant.path for variant in variants)
        stamp = functools.partial(computing.stamp_of, extractor.image_dir)
        for indices in shards.cut(paths, todo, depth=self._owner.depth):
            some = [variants[index] for index in indices]
            shard = shards.shard_of(some, extractor, self._reducer.store.folder.name, stamp)
            self._pending[shard.id] = indices
            yield Task(shard.name, shard)

    def _take(self, outcome: Outcome, future: "Future[Fetched]", advance: Callable[[int], None]) -> None:
        """Merge what a worker committed, or have it computed again where that is damaged."""
        indices, fetched = self._pending.pop(outcome.task.value.id), future.result()
        if fetched.commit is None or fetched.entries is None or len(fetched.entries) != len(indices):
            self._check_shared(outcome, fetched)
            part = fetched.commit.part if fetched.commit else None
            self._reducer.ledger.withdraw(outcome.task.value.id, part)
            self._again += indices
            return
        rows = self._reducer.merge(fetched.commit, fetched.entries)
        for index, row, entry in zip(indices, rows, fetched.entries, strict=True):
            if row is not None:
                self.rows[index] = row
            elif entry.reason is not None:
                self.rejected[self._variants[index].path] = entry.reason
            else:  # another run has found the row damaged meanwhile
                self._again.append(index)
        self.computed += sum(entry.vector is not None for entry in fetched.entries)
        self._summary.add(fetched.commit, outcome.node, photos=len({self._variants[i].path for i in indices}))
        self._done += len(indices)
        advance(self._done)

    def _check_shared(self, outcome: Outcome, fetched: Fetched) -> None:
        """Refuse a folder in which this machine does not see what a worker says that it wrote."""
        (record,) = self._reducer.store.lookup(
            self._extractor.image_dir, [self._extractor.index_name(outcome.task.value.variants[0])]
        )
        # Another run may have merged it into the same store meanwhile.
        if fetched.missing and outcome.result == work.WON and record is None:
            raise StoreError(
                f"what {outcome.node} wrote to {self._reducer.ledger.folder} is not to be seen on this machine. Give a "
                f"--bottleneck_dir on a disk that all nodes share, or at a URL."
            )

    def _still_missing(self, indices: list[int]) -> list[int]:
        """Return which of some variants the store lacks still, and take what it has by now from other runs."""
        indices = sorted(indices)
        some = [self._variants[index] for index in indices]
        known, todo = computing.missing(some, extractor=self._extractor, store=self._reducer.store)
        self.rows[indices] = known.rows
        self.rejected |= known.rejected
        return [indices[number] for number in todo]
