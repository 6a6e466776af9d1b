"""The process on a node that does one task after the other."""

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import retrain
from retrain.cluster.tasks import Reply, Task
from retrain.errors import RetrainError, first_line

OpenWorker = Callable[[int, Mapping[str, Any]], Callable[[Task, int], Any]]


@dataclass(frozen=True, slots=True)
class Versions:
    """What driver and workers must have in common, so that they understand each other and compute the same."""

    retrain: str
    python: str

    def __str__(self) -> str:
        return f"retrain {self.retrain} on Python {self.python}"


def versions() -> Versions:
    """Return the versions in this process."""
    return Versions(retrain.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")


class Worker:
    """What Ray starts on a node: it is opened once, and then works."""

    def __init__(self) -> None:
        self._work: Callable[[Task, int], Any] | None = None

    def open(self, wanted: Versions, pickled: bytes, cores: int, shared: Mapping[str, Any]) -> Reply:
        """Prepare for work.

        Args:
            wanted: The driver's versions.
            pickled: An `OpenWorker`, pickled: it is read only by the same versions.
            cores: How many cores this process has.
            shared: What the driver gives to all workers.

        Returns:
            The id of the node as the result, or why this worker cannot work.
        """
        import ray
        from ray import cloudpickle

        found = versions()
        if found != wanted:
            text = f"{platform.node()} has {found}, but this run is {wanted}. Install the same on all nodes."
            return Reply(failure=text, final=True)
        try:
            self._work = cloudpickle.loads(pickled)(cores, shared)
        except Exception as error:
            return _failed(error)
        return Reply(ray.get_runtime_context().get_node_id())

    def work(self, task: Task, attempt: int) -> Reply:
        """Do a task, and return its result or why there is none."""
        if self._work is None:
            return Reply(failure="the worker was not opened")
        try:
            return Reply(self._work(task, attempt))
        except Exception as error:
            return _failed(error)


def _failed(error: Exception) -> Reply:
    return Reply(failure=first_line(error), final=isinstance(error, RetrainError) and not error.transient)
