"""A real Ray of several nodes on this machine, for tests of what runs on clusters."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import ROOT


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder for Ray's files, whose path is short enough for sockets, as pytest's are not; it is removed."""
    with TemporaryDirectory(prefix="rt", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def ray_nodes(cores: Sequence[int], env: dict[str, str] | None = None) -> Iterator[Any]:
    """Start nodes with so many cores each, whose processes get these variables, and give Ray's own `Cluster` of them.

    Args:
        cores: Of each node.
        env: Beside the environment of this process.
    """
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        head = {
            "num_cpus": cores[0],
            "include_dashboard": False,
            "_system_config": {"prestart_worker_first_driver": False},  # a process for each core that nobody asked for
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for count in cores[1:]:
                cluster.add_node(num_cpus=count)
            yield cluster
        finally:
            cluster.shutdown()


def worker_processes(node) -> list[Any]:
    """Return the processes of the workers on a node of `Cluster`, as psutil has them."""
    import psutil

    (raylet,) = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children()
    return [child for child in children if child.name().startswith("ray::Worker")]
