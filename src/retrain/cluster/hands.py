"""The workers of a run as the driver sees them: opens and ends them, and knows how many there may be."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from retrain.cluster.actor import Worker, versions
from retrain.cluster.nodes import CORES, Place, names, places
from retrain.cluster.tasks import Job, Reply
from retrain.errors import ClusterError

IN_FLIGHT = 2  # tasks of a worker: one that it does, one that lies ready
_OPENINGS = 3  # that may fail on a node, one after the other, until it gets no more workers
_LOOK_SECONDS = 1.0  # from one reading of the list of nodes to the next


@dataclass(frozen=True, slots=True)
class Limits:
    """The fewest and the most workers, None for as many as the nodes have room for, and how long one may be idle."""

    fewest: int | None
    most: int | None
    idle_seconds: float


@dataclass(eq=False, slots=True)
class Hand:
    """A worker; `held` are its tasks and Ray's references to their results, in the order in which it does them.

    `since` is the moment since when it does the first of them, or nothing.
    """

    actor: Any
    place: Place
    node: str | None
    ready: bool = False
    held: list[tuple[Job, Any]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def may_take(self, job: Job) -> bool:
        """Return whether it has room for a task."""
        if not self.ready or (job.suspect and self.held):
            return False
        return len(self.held) < IN_FLIGHT and not any(held is job or held.suspect for held, _ in self.held)

    def let_go(self, job: Job) -> bool:
        """Forget a task that it is done with, and return whether it had it."""
        for number, (held, _) in enumerate(self.held):
            if held is job:
                del self.held[number]
                job.copies -= 1
                if number == 0:
                    self.since = time.monotonic()
                return True
        return False


class Hands:
    """All workers of a run, those that are being opened too."""

    def __init__(
        self, opening: tuple[bytes, Any], limits: Limits, opened: Callable[[Hand, "Future[Reply]"], None]
    ) -> None:
        """Have none yet.

        Args:
            opening: A pickled `OpenWorker` and a reference to what all workers share.
            limits: How many there may be.
            opened: Called, in any thread, with what became of a worker that was opened.
        """
        self._opening, self._limits, self._report = opening, limits, opened
        self._rows: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}
        self._looked = -_LOOK_SECONDS
        self._refusals: dict[str | None, list[str]] = {}
        self.all: list[Hand] = []

    def name(self, hand: Hand) -> str:
        """Return the name of a worker's node, for people."""
        return self._names.get(hand.node or "", hand.node or "a new node")

    def ready(self) -> list[Hand]:
        """Return those that can work."""
        return [hand for hand in self.all if hand.ready]

    def grow(self, waiting: int) -> None:
        """Open workers for tasks that wait, or lie ready at others, where limits and nodes have room for them.

        A worker that no node has room for waits in Ray's own queue, which is what makes an autoscaler add nodes.

        Raises:
            ClusterError: There is none, and none can be opened.
        """
        limits = self._limits
        for hand in self.all:
            waiting += max(len(hand.held) - 1, 0) if hand.ready else -1
        wanted = max(waiting, (limits.fewest or 0) - len(self.all))
        if limits.most is not None:
            wanted = min(wanted, limits.most - len(self.all))
        if wanted <= 0:
            return
        room = self._room()
        sure = limits.most if limits.most is not None else max(limits.fewest or 0, 1)
        for number in range(wanted):
            if number < len(room):
                self._open(room[number])
            elif len(self.all) < sure and len(self._refusals.get(None, ())) < _OPENINGS:
                self._open(Place(None, max((hand.place.cores for hand in self.all), default=CORES)))
        if not self.all:
            raise ClusterError(f"No worker can be opened: {next(iter(self._refusals.values()))[-1]}.")

    def accept(self, hand: Hand, reply: Reply) -> None:
        """Take what a new worker says: it is ready, or why it is not.

        Raises:
            ClusterError: It will not be, wherever that is tried.
        """
        if reply.failure is None:
            hand.node, hand.ready, hand.since = reply.result, True, time.monotonic()
            self._refusals.pop(hand.place.node, None)
            return
        self.drop(hand)
        if reply.final:
            raise ClusterError(f"{self.name(hand)}: {reply.failure}")
        self._refusals.setdefault(hand.place.node, []).append(f"{self.name(hand)}: {reply.failure}")

    def drop(self, hand: Hand) -> list[Job]:
        """End a worker, dead or alive, and return the tasks that it had."""
        import ray

        if hand not in self.all:
            return []
        self.all.remove(hand)
        self._looked = -_LOOK_SECONDS  # its node may be gone
        with contextlib.suppress(Exception):  # as Ray may
            ray.kill(hand.actor)
        jobs = [job for job, _ in hand.held]
        for job in jobs:
            hand.let_go(job)
        return jobs

    def shrink(self) -> None:
        """End workers that have been idle for long, but for the fewest."""
        now = time.monotonic()
        for hand in self.ready():
            idle = not hand.held and now - hand.since > self._limits.idle_seconds
            if idle and len(self.all) > max(self._limits.fewest or 0, 1):
                self.drop(hand)

    def _room(self) -> list[Place]:
        """Return where workers fit, but for as much of it as those will take whose node is not known yet."""
        import ray

        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked, self._rows = now, ray.nodes()
            self._names = names(self._rows)
        taken: dict[str, int] = {}
        for hand in self.all:
            if hand.node:
                taken[hand.node] = taken.get(hand.node, 0) + hand.place.cores
        room = [place for place in places(self._rows, taken) if len(self._refusals.get(place.node, ())) < _OPENINGS]
        for hand in self.all:
            fits = next((place for place in room if place.cores >= hand.place.cores), None)
            if hand.node is None and fits:
                room.remove(fits)
        return room

    def _open(self, place: Place) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(place.node, soft=False) if place.node else "SPREAD"
        actor = ray.remote(Worker).options(num_cpus=place.cores, scheduling_strategy=strategy).remote()
        hand = Hand(actor, place, place.node)
        self.all.append(hand)
        future = actor.open.remote(versions(), self._opening[0], place.cores, self._opening[1]).future()
        future.add_done_callback(lambda done: self._report(hand, done))
