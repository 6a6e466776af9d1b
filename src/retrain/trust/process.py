"""Runs a task in a new process, which is killed where it takes too long or too much memory.

What a graph or a layer costs is often known only by running it: the size of a tensor that is computed, the turns of a
loop, a fault in a runtime's own code. The process is started anew and never forked: the threads, signals and TensorFlow
of a program that imports this package stay as they are.
"""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from retrain import errors
from retrain.errors import RetrainError
from retrain.files import write_atomically

_SECONDS = 45.0  # for the task, once the runtimes are imported
_STARTING = 300.0  # for importing them, which no model prolongs
_BYTES = 1_900_000_000  # of memory, the runtimes' own included
_TIMES_FILE = 4  # as much as a large model's file, beside the runtimes
_POLL = 0.01 if sys.platform == "linux" else 0.1
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
_REQUEST, _READY, _RESULT = "request", "ready", "result"
# -P, and the path of this process: a file in the current folder must not hide a package, a package may lie anywhere.
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from retrain.trust import process; process.main()"


@dataclass(frozen=True)
class Outcome:
    """How a task ended: the `reason` why it was stopped or crashed, the `error` that it raised, or neither.

    `complete` says that it would end so every time.
    """

    complete: bool
    reason: str = ""
    error: RetrainError | None = None


_TOO_LONG = Outcome(False, f"takes more than {_SECONDS:.0f} s to load and run")  # other processes may have slowed it


def run(task: Callable[[], bool], runtimes: tuple[str, ...], *, size: int) -> Outcome:
    """Return how a task ends in a process of its own.

    Args:
        task: Can be pickled; returns whether its verdict holds for ever.
        runtimes: Modules to import first.
        size: Bytes of the model.

    Raises:
        OSError: The process could not be started.
    """
    if not sys.executable:
        raise OSError("this program has no interpreter of its own to start")
    with TemporaryDirectory(prefix="retrain-") as name:
        folder = Path(name)
        (folder / _REQUEST).write_bytes(pickle.dumps((runtimes, task)))
        words = [sys.executable, "-P", "-c", _CHILD, name, json.dumps(sys.path)]
        # The model is loaded for a moment, beside whatever uses the GPUs.
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "RETRAIN_TRUST_MODELS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        nowhere = subprocess.DEVNULL
        with subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=env) as child:
            try:
                stopped = _watch(child, folder, size)
            finally:
                child.kill()
        return stopped or _outcome(child.returncode, folder)


def _watch(child: subprocess.Popen[bytes], folder: Path, size: int) -> Outcome | None:
    """Wait for the end of a process, and return why it must be killed, None where it ended by itself.

    Raises:
        OSError: It does not even start.
    """
    memory, deadline, ready = _BYTES, time.monotonic() + _STARTING, False
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL)
            return None
        used = _memory(child.pid)
        if not ready and (folder / _READY).exists():
            ready, memory, deadline = True, max(_BYTES, used + _TIMES_FILE * size), time.monotonic() + _SECONDS
        if used > memory:
            return Outcome(True, f"takes more than {memory / 1e9:.1f} GB of memory")
        if time.monotonic() > deadline:
            if not ready:
                raise OSError(f"it has not started within {_STARTING:.0f} s")
            return _TOO_LONG


def _memory(process: int) -> int:
    """Return how many bytes of memory a process holds; 0 where this system does not say it, or the process is gone."""
    try:
        if sys.platform == "linux":
            return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if os.name == "posix":
            words = ["ps", "-o", "rss=", "-p", str(process)]
            return 1024 * int(subprocess.run(words, capture_output=True, check=False).stdout)
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _outcome(code: int, folder: Path) -> Outcome:
    """Return how a process that was not killed ended.

    Raises:
        OSError: It did not come as far as the task.
    """
    with suppress(OSError, ValueError):
        result = json.loads((folder / _RESULT).read_text())
        if result.get("error"):
            return Outcome(False, error=getattr(errors, result["error"])(result["message"]))
        return Outcome(result["complete"], result["reason"])
    if not (folder / _READY).exists():
        raise OSError(f"it ended with {_name_of(code)} before it began")
    name = _name_of(code)
    if name == "SIGALRM":
        return _TOO_LONG
    if name in _CRASHES:
        return Outcome(True, f"crashes its runtime ({name})")
    return Outcome(False, f"ended the process that tried it ({name})")


def _name_of(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Run the task of the folder that the first argument names, in the process that `run` starts."""
    folder = Path(sys.argv[1])
    runtimes, task = pickle.loads((folder / _REQUEST).read_bytes())
    for name in runtimes:
        with suppress(ImportError):  # the task says what is missing
            importlib.import_module(name)
    _limit_itself()
    (folder / _READY).touch()
    try:
        result = {"complete": bool(task()), "reason": ""}
    except RetrainError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        result = {"complete": True, "reason": "takes more memory than there is"}
    write_atomically(folder / _RESULT, json.dumps(result).encode())
    os._exit(0)  # a runtime that is taken down may hang or crash, and that says nothing of the model


def _limit_itself() -> None:
    """Leave no process behind where the one that watches is killed, and no file where this one crashes."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        signal.alarm(int(2 * _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
