"""Simulates a cluster that computes bottlenecks, event by event; knows seconds, and neither photos nor networks.

Pages of a listing arrive, the driver cuts shards and hands them out, workers compute and commit them, and the driver
merges the commits. Nodes may be slow, and may be lost: what their workers had in progress is computed again.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from retrain.cluster.hands import IN_FLIGHT
from retrain.cluster.nodes import groups


@dataclass(frozen=True)
class Fleet:
    """Nodes that compute.

    Attributes:
        nodes: How many there are.
        cores: Of each node; a worker has at most four of them.
        opening: Seconds from the start until the workers of a node work.
        slow: Share of nodes that take `slowdown` times as long.
        losses: How often a node is lost, in an hour.
        replacing: Seconds until another node is there, whose workers are opened then.
    """

    nodes: int
    cores: int
    opening: float = 0.0
    slow: float = 0.0
    slowdown: float = 1.0
    losses: float = 0.0
    replacing: float = 0.0

    @property
    def slow_nodes(self) -> int:
        """Return how many nodes are slow."""
        return round(self.slow * self.nodes)


@dataclass(frozen=True)
class Driver:
    """The process that lists, cuts and merges, one thing after the other.

    Attributes:
        answer: Seconds until the storage has sent a page of a listing.
        listers: Pages that are asked for at once, each of another folder.
        page: The driver's own seconds for a page.
        cut: Its seconds for a shard, until a worker has it.
        merge: Its seconds for a commit. A worker gets its next shard after them.
    """

    answer: float
    listers: int
    page: float
    cut: float
    merge: float


@dataclass(frozen=True)
class Timeline:
    """What happened, in seconds since the start.

    Attributes:
        listed: When the last page was there.
        first: When the first commit was merged.
        commits: When each shard was committed, float64 [S], ascending.
        merged: When the last commit was merged.
        repeated: Shards that lost nodes had begun.
        worked: Seconds of all workers on the shards that they committed.
        paid: Seconds of all nodes until the last commit.
        driving: Seconds in which the driver was busy until the last commit.
        merging: Those of them that were spent on merging.
        backlog: Commits that were not merged yet at the last commit.
    """

    listed: float
    first: float
    commits: np.ndarray
    merged: float
    repeated: int
    worked: float
    paid: float
    driving: float
    merging: float
    backlog: int

    def commits_per_second(self, window: float = 10.0) -> float:
        """Return the most commits a second within a window, in seconds."""
        ends = np.searchsorted(self.commits, self.commits + window)
        return float((ends - np.arange(len(self.commits))).max()) / window


def simulate(
    folders: Sequence[int], seconds: np.ndarray, fleet: Fleet, driver: Driver, rng: np.random.Generator
) -> Timeline:
    """Return how a cluster computes shards.

    Args:
        folders: Pages of each folder, one after the other; each page is a shard.
        seconds: float64 [S], of each shard on a worker of a node that is not slow, in the order in which they arrive.
        fleet: The nodes.
        driver: The driver.
        rng: Draws when which node is lost.
    """
    return _Simulation(folders, seconds, fleet, driver, rng).run()


@dataclass(eq=False)
class _Node:
    """A node, and when it was there first; `slowness` is how many times as long its work takes."""

    slowness: float
    since: float = 0.0
    workers: "list[_Worker]" = field(default_factory=list)


@dataclass(eq=False)
class _Worker:
    """A worker with the shards that it has not committed, of which the first is in progress."""

    node: _Node
    jobs: deque[int] = field(default_factory=deque)
    held: int = 0  # shards whose end the driver has not seen
    lost: bool = False


class _Simulation:
    def __init__(
        self, folders: Sequence[int], seconds: np.ndarray, fleet: Fleet, driver: Driver, rng: np.random.Generator
    ) -> None:
        self._seconds, self._fleet, self._driver, self._rng = seconds.tolist(), fleet, driver, rng
        self._now, self._number = 0.0, itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._folders, self._pages = deque(folders), sum(folders)
        self._arrived = itertools.count()
        self._ready: deque[int] = deque()
        # Workers by how many shards they have; some of them have another number by now.
        self._room: tuple[deque[_Worker], ...] = tuple(deque() for _ in range(IN_FLIGHT))
        self._nodes = [_Node(fleet.slowdown if n < fleet.slow_nodes else 1.0) for n in range(fleet.nodes)]
        self._listed = self._free = self._worked = self._paid = self._driving = self._merging = 0.0
        self._commits: list[float] = []
        self._merges: list[float] = []
        self._repeated = 0

    def run(self) -> Timeline:
        for _ in range(self._driver.listers):
            self._list_folder()
        for node in self._nodes:
            self._after(self._fleet.opening, partial(self._open, node, 0.0))
        if self._fleet.losses:
            self._await_loss()
        while len(self._merges) < self._pages:
            self._now, _, happens = heapq.heappop(self._events)
            happens()
        last = self._commits[-1]
        paid = self._paid + sum(max(0.0, last - node.since) for node in self._nodes)
        backlog = sum(merged > last for merged in self._merges)
        late = max(0.0, self._merges[-1] - last)  # of the driver's time, all of it merging: it fell behind
        return Timeline(
            self._listed, self._merges[0], np.array(self._commits), self._merges[-1], self._repeated, self._worked,
            paid, self._driving - late, self._merging - late, backlog,
        )  # fmt: skip

    def _after(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._number), happens))

    def _drive(self, seconds: float, happens: Callable[[], None]) -> None:
        """Have the driver do something, after all that it was asked to do before."""
        self._free = max(self._free, self._now) + seconds
        self._driving += seconds
        self._after(self._free - self._now, happens)

    def _list_folder(self) -> None:
        if self._folders:
            self._list(self._folders.popleft())

    def _list(self, pages: int) -> None:
        """Ask for the first page of those of a folder that are left."""
        if pages:
            self._after(self._driver.answer, lambda: self._drive(self._driver.page, partial(self._page, pages)))
        else:
            self._list_folder()

    def _page(self, pages: int) -> None:
        self._listed = self._now
        self._drive(self._driver.cut, self._arrive)
        self._list(pages - 1)

    def _arrive(self) -> None:
        self._ready.append(next(self._arrived))
        self._assign()

    def _assign(self) -> None:
        """Give shards to workers that have room, the idlest first."""
        for held, workers in enumerate(self._room):
            while self._ready and workers:
                worker = workers.popleft()
                if not worker.lost and worker.held == held:
                    self._give(worker, self._ready.popleft())

    def _give(self, worker: _Worker, shard: int) -> None:
        worker.jobs.append(shard)
        worker.held += 1
        self._offer(worker)
        if len(worker.jobs) == 1:
            self._begin(worker)

    def _offer(self, worker: _Worker) -> None:
        if worker.held < IN_FLIGHT:
            self._room[worker.held].append(worker)

    def _begin(self, worker: _Worker) -> None:
        seconds = self._seconds[worker.jobs[0]] * worker.node.slowness
        self._after(seconds, partial(self._commit, worker, seconds))

    def _commit(self, worker: _Worker, seconds: float) -> None:
        if worker.lost:
            return
        worker.jobs.popleft()
        self._worked += seconds
        self._commits.append(self._now)
        self._merging += self._driver.merge
        self._drive(self._driver.merge, partial(self._merge, worker))
        if worker.jobs:
            self._begin(worker)

    def _merge(self, worker: _Worker) -> None:
        self._merges.append(self._now)
        if not worker.lost:
            worker.held -= 1
            self._offer(worker)
            self._assign()

    def _open(self, node: _Node, since: float) -> None:
        if node.since != since:  # lost while its workers were opened
            return
        node.workers = [_Worker(node) for _ in groups(self._fleet.cores)]
        for worker in node.workers:
            self._offer(worker)
        self._assign()

    def _await_loss(self) -> None:
        rate = self._fleet.losses * self._fleet.nodes / 3600
        self._after(float(self._rng.exponential(1 / rate)), self._lose)

    def _lose(self) -> None:
        """Lose a node; what its workers had in progress waits before all else."""
        node = self._nodes[int(self._rng.integers(len(self._nodes)))]
        if self._now > node.since:  # and not away already
            for worker in node.workers:
                worker.lost = True
                self._repeated += bool(worker.jobs)
                self._ready.extendleft(reversed(worker.jobs))
            node.workers = []
            self._paid += self._now - node.since
            node.since = self._now + self._fleet.replacing
            self._after(self._fleet.replacing + self._fleet.opening, partial(self._open, node, node.since))
            self._assign()
        self._await_loss()
