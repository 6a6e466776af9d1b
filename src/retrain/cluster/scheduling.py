"""Decides which worker gets which task, how many workers there are, and what becomes of tasks whose worker dies."""

import contextlib
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from retrain.cluster.actor import Worker, versions
from retrain.cluster.feed import Events, Feed
from retrain.cluster.nodes import CORES, Place, names, places
from retrain.cluster.reasons import is_lost, reason
from retrain.cluster.tasks import ATTEMPTS, Job, Outcome, Reply, Task
from retrain.errors import ClusterError

_IN_FLIGHT = 2  # tasks of a worker: one that it does, one that lies ready
_OPENINGS = 3  # that may fail on a node, one after the other, until it gets no more workers
_TICK = 1.0  # seconds from one look at the nodes to the next


@dataclass(frozen=True, slots=True)
class Limits:
    """The fewest and the most workers, None for as many as the nodes have room for, and how long one may be idle."""

    fewest: int | None
    most: int | None
    idle_seconds: float


@dataclass(eq=False, slots=True)
class _Hand:
    """An actor as the driver sees it; `jobs` are in the order in which it does them."""

    actor: Any
    place: Place
    node: str | None
    ready: bool = False
    jobs: list[Job] = field(default_factory=list)
    free_since: float = field(default_factory=time.monotonic)


class Schedule:
    """One run of tasks on workers.

    All state belongs to the thread that asks for outcomes: Ray's callbacks and the feed only put events into a queue.
    """

    def __init__(self, opening: tuple[bytes, Any], tasks: Iterable[Task], limits: Limits) -> None:
        """Begin; `opening` is a pickled `OpenWorker` and a reference to what all workers share."""
        self._opening, self._limits = opening, limits
        self._events: Events = queue.SimpleQueue()
        self._feed = Feed(tasks, self._events, self._arrived, self._ended)
        self._asked, self._fed = 0, False
        self._waiting: deque[Job] = deque()
        self._unfinished = 0
        self._hands: list[_Hand] = []
        self._outcomes: deque[Outcome] = deque()
        self._rows: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}
        self._looked = 0.0
        self._refusals: dict[str | None, list[str]] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of each task, once, as soon as it is known; the workers end with the last one."""
        try:
            while not self._fed or self._unfinished:
                self._look()
                self._assign()
                self._open_workers()
                self._shrink()
                self._ask()
                with contextlib.suppress(queue.Empty):
                    self._events.get(timeout=_TICK)()
                while self._outcomes:
                    yield self._outcomes.popleft()
        finally:
            self._feed.stop()
            for hand in list(self._hands):
                self._drop(hand)

    def _arrived(self, task: Task) -> None:
        self._asked -= 1
        self._unfinished += 1
        self._waiting.append(Job(task))

    def _ended(self, error: BaseException | None) -> None:
        self._fed = True
        if error is not None:
            raise error

    def _ask(self) -> None:
        """Let the feed take as many tasks as the workers need next."""
        if self._fed:
            return
        count = _IN_FLIGHT * (len(self._hands) + 1) - len(self._waiting) - self._asked
        if count > 0:
            self._feed.ask(count)
            self._asked += count

    def _look(self) -> None:
        """Read the list of nodes, now and then."""
        import ray

        now = time.monotonic()
        if now - self._looked >= _TICK or not self._rows:
            self._looked, self._rows = now, ray.nodes()
            self._names = names(self._rows)

    def _assign(self) -> None:
        """Give tasks that wait to workers that have room, the idlest first, and a failed one to another node."""
        while self._waiting:
            job = self._waiting[0]
            if job.done:
                self._waiting.popleft()
                continue
            free = [hand for hand in self._hands if hand.ready and len(hand.jobs) < _IN_FLIGHT]
            if not free:
                return
            self._waiting.popleft()
            self._send(job, min(free, key=lambda hand: (hand.node in job.failed_on, len(hand.jobs))))

    def _send(self, job: Job, hand: _Hand) -> None:
        hand.jobs.append(job)
        job.copies += 1
        future = hand.actor.work.remote(job.task, job.attempt).future()
        future.add_done_callback(lambda done: self._events.put(partial(self._worked, hand, job, done)))

    def _worked(self, hand: _Hand, job: Job, future: "Future[Reply]") -> None:
        """Take what a worker answers, or that it will answer no more."""
        error = future.exception()
        if error is not None and is_lost(error):
            self._lost(hand, error)
            return
        if job in hand.jobs:  # unless the worker was given up
            hand.jobs.remove(job)
            hand.free_since = time.monotonic()
            job.copies -= 1
        reply = Reply(failure=reason(error)) if error is not None else future.result()
        if reply.failure is None or reply.final:
            self._finish(job, reply, hand)
        else:
            self._again(job, hand, reply.failure)

    def _lost(self, hand: _Hand, error: BaseException) -> None:
        """Send the tasks of a worker that died to others: the first one may be why, the next one had not begun."""
        self._drop(hand)
        self._looked = 0.0
        jobs, hand.jobs = hand.jobs, []
        for job in jobs:
            job.copies -= 1
        for job in reversed(jobs[1:]):
            if not job.done and not job.copies:
                self._waiting.appendleft(job)
        if jobs:
            self._again(jobs[0], hand, f"the worker on {self._name(hand)} ended ({reason(error)})")

    def _again(self, job: Job, hand: _Hand, failure: str) -> None:
        """Try a task again, unless it was tried often enough or another worker has it."""
        if job.done or job.copies:
            return
        if job.attempt >= ATTEMPTS:
            self._finish(job, Reply(failure=failure), hand)
            return
        job.attempt += 1
        job.failed_on.add(hand.node or "")
        self._waiting.appendleft(job)

    def _finish(self, job: Job, reply: Reply, hand: _Hand) -> None:
        if not job.done:
            job.done = True
            self._unfinished -= 1
            self._outcomes.append(Outcome(job.task, reply.result, reply.failure, self._name(hand), job.attempt))

    def _name(self, hand: _Hand) -> str:
        return self._names.get(hand.node or "", hand.node or "a node")

    def _open_workers(self) -> None:
        """Open workers for tasks that wait: on the nodes that there are, and up to `most` on nodes that may come."""
        opening = sum(not hand.ready for hand in self._hands)
        wanted = max((len(self._waiting) + 1) // _IN_FLIGHT - opening, (self._limits.fewest or 0) - len(self._hands))
        if self._limits.most is not None:
            wanted = min(wanted, self._limits.most - len(self._hands))
        if wanted <= 0:
            return
        taken: dict[str, int] = {}
        for hand in self._hands:
            if hand.node:
                taken[hand.node] = taken.get(hand.node, 0) + hand.place.cores
        room = [place for place in places(self._rows, taken) if len(self._refusals.get(place.node, [])) < _OPENINGS]
        room = room[sum(hand.node is None for hand in self._hands) :]  # those without a node yet will take some of it
        sure = self._limits.most if self._limits.most is not None else max(self._limits.fewest or 0, 1)
        for number in range(wanted):
            if number < len(room):
                self._open(room[number])
            elif len(self._hands) < sure and len(self._refusals.get(None, [])) < _OPENINGS:
                self._open(Place(None, max((hand.place.cores for hand in self._hands), default=CORES)))
        if not self._hands:
            raise ClusterError(f"No worker could be started: {next(iter(self._refusals.values()))[-1]}.")

    def _open(self, place: Place) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(place.node, soft=False) if place.node else "SPREAD"
        actor = ray.remote(Worker).options(num_cpus=place.cores, scheduling_strategy=strategy).remote()
        hand = _Hand(actor, place, place.node)
        self._hands.append(hand)
        future = actor.open.remote(versions(), self._opening[0], place.cores, self._opening[1]).future()
        future.add_done_callback(lambda done: self._events.put(partial(self._opened, hand, done)))

    def _opened(self, hand: _Hand, future: "Future[Reply]") -> None:
        """Take a worker that is ready, or the reason why it is not."""
        error = future.exception()
        reply = Reply(failure=reason(error)) if error is not None else future.result()
        if reply.failure is None:
            hand.node, hand.ready, hand.free_since = reply.result, True, time.monotonic()
            self._refusals.pop(hand.place.node, None)
            return
        self._drop(hand)
        self._looked = 0.0
        if reply.final:
            raise ClusterError(reply.failure)
        self._refusals.setdefault(hand.place.node, []).append(f"{self._name(hand)}: {reply.failure}")

    def _shrink(self) -> None:
        """End workers that have been idle while no task waits."""
        fewest, now = self._limits.fewest or 0, time.monotonic()
        for hand in list(self._hands):
            idle = hand.ready and not hand.jobs and now - hand.free_since > self._limits.idle_seconds
            if idle and not self._waiting and len(self._hands) > max(fewest, 1):
                self._drop(hand)

    def _drop(self, hand: _Hand) -> None:
        import ray

        if hand in self._hands:
            self._hands.remove(hand)
            with contextlib.suppress(Exception):  # it may be dead, and Ray with it
                ray.kill(hand.actor)
