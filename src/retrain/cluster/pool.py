"""A cluster's workers, as many as tasks need.

with open_cluster("auto", fewest=None, most=None) as cluster:
    for outcome in cluster.run(open_worker, {"network": content}, tasks):
        ...
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from retrain.cluster.actor import OpenWorker
from retrain.cluster.hands import Limits
from retrain.cluster.scheduling import Schedule
from retrain.cluster.starting import connected
from retrain.cluster.tasks import Outcome, Task

__all__ = ["Cluster", "OpenWorker", "Outcome", "Task", "open_cluster"]

_IDLE_SECONDS = 30.0


class Cluster:
    """Ray, as `open_cluster` has connected to it."""

    def __init__(self, dashboard: str, limits: Limits, notice: Callable[[str], None]) -> None:
        """Take what `open_cluster` knows; `dashboard` is HOST:PORT, "" for none."""
        self.dashboard = dashboard
        self._limits, self._notice = limits, notice

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


@contextmanager
def open_cluster(
    address: str,
    *,
    fewest: int | None = None,
    most: int | None = None,
    idle_seconds: float = _IDLE_SECONDS,
    notice: Callable[[str], None] = lambda text: None,
) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the context lasts.

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
    with connected(address) as dashboard:
        yield Cluster(dashboard, Limits(fewest, most, idle_seconds), notice)
