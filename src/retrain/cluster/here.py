"""This machine as a cluster of one worker: for what is cut into tasks, and no cluster."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from retrain import workers
from retrain.cluster.actor import OpenWorker
from retrain.cluster.tasks import Outcome, Task


class Here:
    """Runs tasks in this process, one after the other, as `retrain.cluster.pool.Cluster` does on others."""

    def run(self, open_worker: OpenWorker, shared: Mapping[str, Any], tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task; whatever goes wrong ends them. Without any, no worker is opened."""
        work = None
        for task in tasks:
            work = work or open_worker(workers.cores(), shared)
            yield Outcome(task, work(task, 1), None, platform.node(), 1)
