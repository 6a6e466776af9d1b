"""A pool of threads that works through a list, and its results in lots as they are done."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

_SECONDS = 0.02  # how long a result may lie until it is looked for
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a worker raised, on its way to the thread that waits for it."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Results(Generic[Result]):
    """What the workers have done: results, None after the last one; room for more; whether they are through."""

    done: "queue.SimpleQueue[list[Result] | _Failure | None]"
    room: threading.Semaphore
    ended: threading.Event


@contextlib.contextmanager
def worker_pool(
    open_worker: Callable[[], Callable[[Job], list[Result]]], todo: Iterable[Job], *, threads: int, waiting: int
) -> Iterator[Results[Result]]:
    """Start threads that work through `todo`, and give their results; they stop when the block ends.

    Args:
        open_worker: Called once for each thread, here; what it returns turns a job into results.
        todo: The jobs; taken one by one, so that a million of them need not exist at once.
        threads: How many at once.
        waiting: How many jobs' results may wait to be taken.
    """
    results: Results[Result] = Results(queue.SimpleQueue(), threading.Semaphore(waiting), threading.Event())
    jobs, lock, stop = iter(todo), threading.Lock(), threading.Event()
    # One even where there is nothing to do: it is who says that all is done.
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

    Args:
        open_worker: Called once for each thread, here; what it returns turns a job into its result.
        todo: The jobs; taken one by one by the threads, which wait for the next one where it is slow to come.
        threads: How many at once.
        waiting: How many results may wait to be taken.

    Raises:
        BaseException: Whatever a worker raised.
    """

    def numbered() -> Callable[[tuple[int, Job]], list[tuple[int, Result]]]:
        work = open_worker()
        return lambda job: [(job[0], work(job[1]))]

    early: dict[int, Result] = {}
    due = 0
    with worker_pool(numbered, enumerate(todo), threads=threads, waiting=waiting) as results:
        for lot in batches(results, seconds=_SECONDS):
            early.update(lot)
            while due in early:
                yield early.pop(due)
                due += 1


def batches(results: Results[Result], *, seconds: float = 0, count: int = 0) -> Iterator[list[Result]]:
    """Yield results in lots: those of `seconds`, or about `count` of them.

    Waiting for time and not for each result leaves the interpreter's lock to the workers.

    Raises:
        BaseException: Whatever a worker raised.
    """
    lot: list[Result] = []
    over = False
    while not over:
        if seconds:
            results.ended.wait(seconds)
        with contextlib.suppress(queue.Empty):
            while not over and (not count or len(lot) < count):
                outcome = results.done.get(block=bool(count))
                if outcome is None:
                    over = True
                elif isinstance(outcome, _Failure):
                    raise outcome.error
                else:
                    lot += outcome
                    results.room.release()
        if lot:
            yield lot
            lot = []


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
