"""Runs numpy's work on threads of our own, one for each core.

BLAS has threads, too, which wait for each other in a loop: beside other processes they take several times as long as
one thread does, and the last digits of what they compute depend on how many there are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from retrain import workers

_WAITING = 64  # results, at most
Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def one_of_blas() -> Iterator[None]:
    """Have BLAS compute each product on the thread that asks for it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def each(work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
    """Yield what comes of each job, in their order; BLAS computes its products on their threads alone."""
    if jobs:
        threads = min(workers.cores(), len(jobs))
        with one_of_blas():
            yield from workers.map_in_order(lambda: work, jobs, threads=threads, waiting=_WAITING)


def run(work: Callable[[Job], None], jobs: Sequence[Job]) -> None:
    """Do each job."""
    for _ in each(work, jobs):
        pass
