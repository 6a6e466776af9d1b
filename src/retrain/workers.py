"""Runs jobs on a pool of threads and yields results in batches.

Not a `ThreadPoolExecutor`: workers take the next job themselves, because a job may be slow to come (a line of standard
input); each thread has its own worker; and results are fetched by time, at a third of the cost of a future for each.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

_SECONDS = 0.02  # from one look for results to the next
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Failure:
    """An exception of a worker, on its way to the thread that waits for results."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Results(Generic[Result]):
    """Results so far, with None after the last one; room for more; whether all workers have ended."""

    done: "queue.SimpleQueue[list[Result] | _Failure | None]"
    room: threading.Semaphore
    ended: threading.Event


@contextlib.contextmanager
def worker_pool(
    open_worker: Callable[[], Callable[[Job], list[Result]]], todo: Iterable[Job], *, threads: int, waiting: int
) -> Iterator[Results[Result]]:
    """Start threads that run the jobs, and yield their results; the threads stop when the block ends.

    Args:
        open_worker: Called once for each thread, in the calling thread; returns what turns a job into results.
        todo: The jobs, taken one by one: they may be slow to come, and a million of them need not exist at once.
        threads: How many at once.
        waiting: How many jobs' results may wait to be fetched.
    """
    results: Results[Result] = Results(queue.SimpleQueue(), threading.Semaphore(waiting), threading.Event())
    jobs, lock, stop = iter(todo), threading.Lock(), threading.Event()
    # At least one thread even for an empty list: the last one to finish signals the end.
    workers = [open_worker() for _ in range(max(1, threads))]
    alive = len(workers)

    def work(worker: Callable[[Job], list[Result]]) -> None:
        nonlocal alive
        while not stop.is_set():
            outcome: list[Result] | _Failure
            try:
                with lock:
                    job = next(jobs, None)
                if job is None:
                    break
                outcome = worker(job)
            except BaseException as error:  # raised again in the thread that waits for it
                outcome = _Failure(error)
            results.room.acquire()
            results.done.put(outcome)
        with lock:
            alive -= 1
            if alive == 0:
                results.done.put(None)
                results.ended.set()

    for worker in workers:
        threading.Thread(target=work, args=(worker,), daemon=True).start()
    try:
        yield results
    finally:
        stop.set()
        for _ in workers:
            results.room.release()


def map_in_order(
    open_worker: Callable[[], Callable[[Job], Result]], todo: Iterable[Job], *, threads: int, waiting: int
) -> Iterator[Result]:
    """Yield the result of each job in the order of the jobs, as soon as those before it are done.

    The arguments are those of `worker_pool`, but that a worker returns one result. While an early job takes long, no
    more than `waiting` others are taken. Raises whatever a worker raised.
    """
    room, over = threading.Semaphore(waiting), threading.Event()

    def paced() -> Iterator[tuple[int, Job]]:
        for job in enumerate(todo):
            room.acquire()
            if over.is_set():
                return
            yield job

    def numbered() -> Callable[[tuple[int, Job]], list[tuple[int, Result]]]:
        work = open_worker()
        return lambda job: [(job[0], work(job[1]))]

    early: dict[int, Result] = {}
    due = 0
    with worker_pool(numbered, paced(), threads=threads, waiting=waiting) as results:
        try:
            for batch in batches(results, seconds=_SECONDS):
                early.update(batch)
                while due in early:
                    room.release()
                    yield early.pop(due)
                    due += 1
        finally:
            over.set()
            room.release()


def batches(results: Results[Result], *, seconds: float = 0, count: int = 0) -> Iterator[list[Result]]:
    """Yield results in batches, all within `seconds` or about `count` of them, and raise whatever a worker raised.

    Waiting for time and not for each result leaves the interpreter's lock to the workers.
    """
    batch: list[Result] = []
    over = False
    while not over:
        if seconds:
            results.ended.wait(seconds)
        with contextlib.suppress(queue.Empty):
            while not over and (not count or len(batch) < count):
                outcome = results.done.get(block=bool(count))
                if outcome is None:
                    over = True
                elif isinstance(outcome, _Failure):
                    raise outcome.error
                else:
                    batch += outcome
                    results.room.release()
        if batch:
            yield batch
            batch = []


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
