"""A pool of threads that works through a list, and its results in lots as they are done."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

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
def at_work(
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
    workers = [open_worker() for _ in range(threads)]
    alive = len(workers)

    def work(worker: Callable[[Job], list[Result]]) -> None:
        nonlocal alive
        while not stop.is_set():
            with lock:
                job = next(jobs, None)
            if job is None:
                break
            outcome: list[Result] | _Failure
            try:
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


def lots(results: Results[Result], *, seconds: float = 0, count: int = 0) -> Iterator[list[Result]]:
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
