"""Runs shards on workers, and merges what they commit as it comes."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from retrain.bottlenecks.cluster import work
from retrain.bottlenecks.cluster.reducing import Fetched, Reducer
from retrain.bottlenecks.cluster.shards import Shard
from retrain.bottlenecks.cluster.summary import Summary
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Entry
from retrain.cluster.tasks import Outcome, Task
from retrain.errors import StoreError

_FETCHERS = 4  # threads that read parts
_WAITING = 8  # parts that are read and not yet merged


class Runs(Protocol):
    """What runs tasks: `retrain.cluster.pool.Cluster`, or this process."""

    def run(self, open_worker: Any, shared: Mapping[str, Any], tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task."""


@dataclass(frozen=True)
class Merged:
    """A shard that is stored: the row and the result of each of its variants."""

    shard: Shard
    rows: Sequence[int | None]
    entries: Sequence[Entry]


class Merging:
    """Runs of shards, and what became of those that are not merged.

    `failures` are names of shards that failed three times, each with the reason; `damaged` are those of the last run
    whose part or commit was.
    """

    def __init__(self, cluster: Runs, extractor: FeatureExtractor, reducer: Reducer) -> None:
        """Prepare to run shards of an extractor's photos."""
        self._cluster, self._extractor, self.reducer = cluster, extractor, reducer
        self.failures: list[tuple[str, str]] = []
        self.damaged: list[Shard] = []
        self.summary = Summary()

    def run(self, tasks: Iterable[Task]) -> Iterator[Merged]:
        """Yield shards as they are merged; each task's value is a shard.

        Parts are read by threads, and merged by the calling one.

        Raises:
            ClusterError: The cluster cannot be used.
            StoreError: The store, or the folder of the parts, cannot be used.
        """
        self.damaged = []
        shared = {"shared": work.shared_of(self._extractor, self.reducer.ledger)}
        fetched: deque[tuple[Outcome, Future[Fetched]]] = deque()
        with ThreadPoolExecutor(_FETCHERS) as fetchers:
            for outcome in self._cluster.run(work.open_worker, shared, tasks):
                if outcome.failure is not None:
                    self.failures.append((outcome.task.name, outcome.failure))
                    continue
                fetched.append((outcome, fetchers.submit(self.reducer.fetch, outcome.task.value.id)))
                while fetched and (len(fetched) > _WAITING or fetched[0][1].done()):
                    yield from self._merged(*fetched.popleft())
            while fetched:
                yield from self._merged(*fetched.popleft())

    def _merged(self, outcome: Outcome, future: "Future[Fetched]") -> Iterator[Merged]:
        """Merge what a worker committed, or put it with the damaged ones."""
        shard: Shard = outcome.task.value
        fetched, ledger = future.result(), self.reducer.ledger
        if fetched.commit is None or fetched.entries is None or len(fetched.entries) != len(shard.variants):
            self._check_shared(outcome, fetched)
            ledger.withdraw(shard.id, fetched.commit.part if fetched.commit else None)
            self.damaged.append(shard)
            return
        rows = self.reducer.merge(fetched.commit, fetched.entries)
        self.summary.add(fetched.commit, outcome.node, photos=len(set(shard.variants.paths)))
        yield Merged(shard, rows, fetched.entries)

    def _check_shared(self, outcome: Outcome, fetched: Fetched) -> None:
        """Refuse a folder in which this machine does not see what a worker says that it wrote."""
        variant = outcome.task.value.variants[0]
        folder, name = self._extractor.image_dir, self._extractor.index_name(variant)
        (record,) = self.reducer.store.lookup(folder, [name])
        # Another run may have merged it into the same store meanwhile.
        if fetched.missing and outcome.result == work.WON and record is None:
            raise StoreError(
                f"what {outcome.node} wrote to {self.reducer.ledger.folder} is not to be seen on this machine. Give a "
                f"--bottleneck_dir on a disk that all nodes share, or at a URL."
            )
