"""Joins a running Ray cluster, or starts one on this machine that ends with the program."""

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retrain import workers
from retrain.errors import ClusterError, first_line


def require_ray() -> None:
    """Raise a ClusterError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("--cluster needs Ray: pip install 'retrain-images[cluster]'")


@contextmanager
def connected(address: str) -> Iterator[str]:
    """Connect this process to Ray, and give the address of its dashboard, "" for none.

    Args:
        address: `auto` or the HOST:PORT of a running cluster.
    """
    require_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if ray.is_initialized():
        yield ray.get_runtime_context().worker.node.webui_url or ""
        return
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        context = _init(address)
    except Exception as error:
        raise ClusterError(f"--cluster {address}: no Ray answers there ({first_line(error)}).") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
    try:
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def _init(address: str) -> Any:
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address != "auto":
        return ray.init(address=address, **quiet)
    try:
        return ray.init(address="auto", **quiet)
    except ConnectionError:
        return ray.init(address="local", num_cpus=workers.cores(), **quiet)
