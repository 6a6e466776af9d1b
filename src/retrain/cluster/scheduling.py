"""Decides which worker gets which task, and what becomes of tasks whose worker dies."""

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from retrain.cluster.feed import Events, Feed
from retrain.cluster.hands import IN_FLIGHT, Hand, Hands, Limits
from retrain.cluster.reasons import is_cancelled, is_lost, reason
from retrain.cluster.tasks import ATTEMPTS, Job, Outcome, Reply, Task
from retrain.errors import ClusterError

_TICK = 1.0  # seconds to wait for an event until the nodes are looked at again
_SLOW_SECONDS, _SLOW = 30.0, 5.0  # at the end, a task that takes longer, and so many times the mean, is given twice
_NOTICE_SECONDS = 15.0  # without any worker, until that is said


class Schedule:
    """One run of tasks on workers.

    All state belongs to the thread that asks for outcomes: Ray's callbacks and the feed only put events into a queue.
    """

    def __init__(
        self, opening: tuple[bytes, Any], tasks: Iterable[Task], limits: Limits, notice: Callable[[str], None]
    ) -> None:
        """Begin to take tasks.

        Args:
            opening: A pickled `OpenWorker` and a reference to what all workers share.
            tasks: Taken a few for each worker ahead of it.
            limits: How many workers there may be.
            notice: Called with a line for people, where tasks wait for the first worker.
        """
        self._events: Events = queue.SimpleQueue()
        self._feed = Feed(tasks, self._events, self._arrived, self._ended)
        self._asked, self._fed = 0, False
        self._hands = Hands(opening, limits, lambda hand, done: self._events.put(partial(self._opened, hand, done)))
        self._waiting: deque[Job] = deque()
        self._unfinished: set[Job] = set()
        self._outcomes: deque[Outcome] = deque()
        self._seconds, self._count = 0.0, 0  # of tasks that went well
        self._notice, self._idle_since = notice, time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of each task, once, as soon as it is known; the workers end with the last one."""
        try:
            while not self._fed or self._unfinished:
                self._assign()
                self._hands.grow(len(self._waiting))
                self._ask()
                if not self._waiting:
                    self._level()
                    self._hands.shrink()
                self._say_what_is_missing()
                with contextlib.suppress(queue.Empty):
                    self._events.get(timeout=_TICK)()
                while self._outcomes:
                    yield self._outcomes.popleft()
        finally:
            self._feed.stop()
            for hand in list(self._hands.all):
                self._hands.drop(hand)

    def _arrived(self, task: Task) -> None:
        self._asked -= 1
        job = Job(task)
        self._unfinished.add(job)
        self._enqueue(job, last=True)

    def _ended(self, error: BaseException | None) -> None:
        self._fed = True
        if error is not None:
            raise error

    def _ask(self) -> None:
        """Let the feed take as many tasks as the workers, and one that may be opened, need next."""
        count = IN_FLIGHT * (len(self._hands.all) + 1) - len(self._waiting) - self._asked
        if count > 0 and not self._fed:
            self._feed.ask(count)
            self._asked += count

    def _enqueue(self, job: Job, *, last: bool = False) -> None:
        if job.queued or job not in self._unfinished:
            return
        job.queued = True
        if last:
            self._waiting.append(job)
        else:
            self._waiting.appendleft(job)

    def _assign(self) -> None:
        """Give tasks that wait to workers that have room, the idlest first, and a failed one to another node."""
        while self._waiting:
            job = self._waiting[0]
            free = [hand for hand in self._hands.all if hand.may_take(job)]
            wanted = job in self._unfinished
            if wanted and not free:
                return
            self._waiting.popleft()
            job.queued = False
            if wanted:
                self._send(job, min(free, key=lambda hand: (hand.node in job.failed_on, len(hand.held))))

    def _send(self, job: Job, hand: Hand) -> None:
        reference = hand.actor.work.remote(job.task, job.attempt)
        if not hand.held:
            hand.since = time.monotonic()
        hand.held.append((job, reference))
        job.copies += 1
        reference.future().add_done_callback(lambda done: self._events.put(partial(self._worked, hand, job, done)))

    def _level(self) -> None:
        """Let an idle worker help: take back what lies ready at another, and copy what is slow at the end."""
        import ray

        hands = self._hands.ready()
        lying = [(hand, job, reference) for hand in hands for job, reference in hand.held[1:]]
        for hand, job, reference in lying[: sum(not hand.held for hand in hands)]:
            ray.cancel(reference)  # it never begins there, which Ray says only when the worker is done with the first
            hand.let_go(job)
            self._enqueue(job)
        now, slow = time.monotonic(), max(_SLOW_SECONDS, _SLOW * self._seconds / max(self._count, 1))
        for hand in hands if self._fed else ():
            if hand.held and now - hand.since > slow and hand.held[0][0].copies == 1:
                self._enqueue(hand.held[0][0], last=True)

    def _opened(self, hand: Hand, future: "Future[Reply]") -> None:
        """Take a worker that is ready, or the reason why it is not."""
        error = future.exception()
        self._hands.accept(hand, Reply(failure=reason(error)) if error is not None else future.result())

    def _worked(self, hand: Hand, job: Job, future: "Future[Reply]") -> None:
        """Take what a worker answers, or that it will answer no more."""
        error = future.exception()
        if error is not None and is_lost(error):
            self._lost(hand, error)
            return
        began = hand.since
        held = hand.let_go(job)  # not if it was taken back, or given up with its worker
        if error is not None and is_cancelled(error):
            return
        reply = Reply(failure=reason(error)) if error is not None else future.result()
        if reply.failure is None and held:
            self._seconds, self._count = self._seconds + hand.since - began, self._count + 1
        if reply.final:
            raise ClusterError(f"{self._hands.name(hand)}: {reply.failure}.")
        if reply.failure is None:
            self._finish(job, reply, hand)
        else:
            self._again(job, hand, reply.failure)

    def _lost(self, hand: Hand, error: BaseException) -> None:
        """Send the tasks of a worker that died to others: the first one is why, as a rule; the next had not begun."""
        jobs = self._hands.drop(hand)
        for job in jobs:
            job.suspect = True
        for job in reversed(jobs[1:]):
            if not job.copies:
                self._enqueue(job)
        if jobs:
            self._again(jobs[0], hand, f"the worker on {self._hands.name(hand)} ended: {reason(error)}")

    def _again(self, job: Job, hand: Hand, failure: str) -> None:
        """Try a task again, unless it was tried often enough or another worker has it."""
        if job.copies or job.queued:
            return
        if job.attempt >= ATTEMPTS:
            self._finish(job, Reply(failure=failure), hand)
            return
        job.attempt += 1
        job.failed_on.add(hand.node or "")
        self._enqueue(job)

    def _finish(self, job: Job, reply: Reply, hand: Hand) -> None:
        if job in self._unfinished:
            self._unfinished.remove(job)
            self._outcomes.append(Outcome(job.task, reply.result, reply.failure, self._hands.name(hand), job.attempt))

    def _say_what_is_missing(self) -> None:
        now = time.monotonic()
        if self._hands.ready() or not self._waiting:
            self._idle_since = now
        elif now - self._idle_since > _NOTICE_SECONDS:
            self._idle_since = now + 3600  # once is enough
            self._notice("The cluster has no free cores yet: tasks wait until a worker can start.")
