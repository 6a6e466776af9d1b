"""A cluster that is joined, or started, when there is something to do for the first time."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from retrain.cluster.pool import Cluster, OpenWorker, Outcome, Task, open_cluster
from retrain.terminal import Terminal


@dataclass(frozen=True)
class ClusterRequest:
    """Which cluster: `auto` or an address; and the fewest and the most workers, None for what suits."""

    address: str
    fewest: int | None = None
    most: int | None = None


class LazyCluster:
    """A cluster for the whole of a run; nothing is joined or started where all is done already."""

    def __init__(self, request: ClusterRequest, terminal: Terminal, opened: ExitStack) -> None:
        """Prepare to open one, which is left with `opened`."""
        self._request, self._terminal, self._opened = request, terminal, opened
        self._cluster: Cluster | None = None

    def run(self, open_worker: OpenWorker, shared: Mapping[str, Any], tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task, as `Cluster.run` does; without any, no cluster is opened.

        Raises:
            ClusterError: The cluster cannot be joined or started, or has no workers.
        """
        waiting = iter(tasks)
        first = next(waiting, None)
        if first is not None:
            yield from self._opened_cluster().run(open_worker, shared, itertools.chain([first], waiting))

    def _opened_cluster(self) -> Cluster:
        if self._cluster is None:
            request, warn = self._request, self._terminal.warn
            opening = open_cluster(request.address, fewest=request.fewest, most=request.most, notice=warn)
            with self._terminal.waiting("Joining the cluster"):
                self._cluster = self._opened.enter_context(opening)
            if self._cluster.dashboard:
                self._terminal.say(f"Ray's dashboard: {self._cluster.dashboard}")
        return self._cluster
