"""A cluster's workers, as many as tasks need.

with open_cluster("auto", fewest=None, most=None) as cluster:
    for outcome in cluster.run(open_worker, {"network": content}, tasks):
        ...
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from retrain.cluster.actor import OpenWorker
from retrain.cluster.hands import Limits
from retrain.cluster.scheduling import Schedule
from retrain.cluster.starting import connected
from retrain.cluster.tasks import Outcome, Task

__all__ = ["Cluster", "OpenWorker", "Outcome", "Task", "open_cluster"]

_IDLE_SECONDS = 30.0


class Cluster:
    """A connection to Ray; a context manager that ends it."""

    def __init__(self, stack: ExitStack, dashboard: str, limits: Limits, notice: Callable[[str], None]) -> None:
        """Hold what `open_cluster` opened; `dashboard` is HOST:PORT, "" for none."""
        self._stack, self._limits, self._notice = stack, limits, notice
        self.dashboard = dashboard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, open_worker: OpenWorker, shared: Mapping[str, Any], tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Do tasks on the workers of the cluster, and yield the outcome of each, once, in the order of their ends.

        Args:
            open_worker: Called once in each worker, with the number of its cores and `shared`; returns a function of a
                task and its attempt (1, 2, 3) that returns a small result. It is pickled, as are its results.
            shared: What all workers get, through Ray's object store.
            tasks: Taken by a thread, a few for each worker ahead of it: they may be slow to come, and many.

        Raises:
            ClusterError: No worker can be opened, its node has other versions than this process, or the work of a task
                raised a `RetrainError` that no other attempt changes.
        """
        import ray
        from ray import cloudpickle

        opening = cloudpickle.dumps(open_worker), ray.put(dict(shared))
        yield from Schedule(opening, tasks, self._limits, self._notice).outcomes()


def open_cluster(
    address: str,
    *,
    fewest: int | None = None,
    most: int | None = None,
    idle_seconds: float = _IDLE_SECONDS,
    notice: Callable[[str], None] = lambda text: None,
) -> Cluster:
    """Connect to a cluster.

    Args:
        address: `auto` joins a running Ray, of RAY_ADDRESS or of this machine, or starts one here, which ends with
            this process; HOST:PORT joins the one there, of which this machine is a node.
        fewest: Workers that are kept although no task waits.
        most: Workers at once; more than the nodes have room for make Ray's autoscaler add nodes. None is as many as the
            nodes have room for.
        idle_seconds: How long a worker waits for tasks until it ends.
        notice: Called with a line for people where tasks wait for free cores.

    Raises:
        UsageError: This is no address.
        ClusterError: Ray is missing, does not answer within seconds, cannot be started, or is another version.
    """
    stack = ExitStack()
    dashboard = stack.enter_context(connected(address))
    return Cluster(stack, dashboard, Limits(fewest, most, idle_seconds), notice)
