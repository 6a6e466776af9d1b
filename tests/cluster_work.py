"""What the workers of tests/cluster do; a module of its own, which their processes can import."""

import os
import signal
import threading
import time
from pathlib import Path

from retrain.errors import RetrainError


class TryLaterError(RetrainError):
    transient = True


def open_worker(cores, shared):
    def about():
        import ray

        return {"pid": os.getpid(), "cores": cores, "node": ray.get_runtime_context().get_node_id(), "shared": shared}

    def meet(folder, path):
        """Say that this worker is there, and wait until somebody lets all go on."""
        (Path(folder) / str(os.getpid())).touch()
        wait_for(path)
        return about()

    def work(task, attempt):
        name, *arguments = task.value
        return {"about": about, "meet": meet, **ACTIONS}[name](*arguments)

    return work


def open_badly(cores, shared):
    raise OSError("no room on the device")


def open_wrongly(cores, shared):
    raise RetrainError("the network is not for this processor.")


def open_elsewhere(cores, shared):
    """Open a worker, but on one node, where each attempt leaves a file."""
    import ray

    if ray.get_runtime_context().get_node_id() == shared["node"]:
        next(number for number in range(100) if first_time(Path(shared["folder"]) / str(number)))
        raise OSError("no room on the device")
    return open_worker(cores, shared)


def first_time(path):
    """Return whether nobody asked for this path before."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path, seconds=30):
    deadline = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)


def die_once(path):
    if first_time(path):
        die()
    return "survived"


def raise_(error, times, folder):
    for number in range(times):
        if first_time(Path(folder) / str(number)):
            raise error
    return "well"


def stick_once(folder):
    """Be done at once, but for the first time, which never ends."""
    if first_time(Path(folder) / "begun"):
        wait_for(Path(folder) / "never")
    return "well"


def stay(doomed, folder):
    """Wait until a node has begun this, which never ends there; return on which one it ended."""
    import ray

    node, begun = ray.get_runtime_context().get_node_id(), Path(folder) / doomed
    if node == doomed:
        begun.touch()
        wait_for(Path(folder) / "never")
    wait_for(begun)
    return node


def exit_():
    raise SystemExit("a library ends the process")


ACTIONS = {
    "echo": lambda value: value,
    "die": die,
    "die_once": die_once,
    "raise": raise_,
    "wait": wait_for,
    "stay": stay,
    "stick_once": stick_once,
    "touch": lambda path: Path(path).touch(),
    "exit": exit_,
    "variable": os.environ.get,
    "unpicklable": threading.Lock,
}
