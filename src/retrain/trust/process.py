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
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain import errors
from retrain.errors import RetrainError, first_line
from retrain.files import bound_reading, reading_bound

_SECONDS = 50.0  # from the start of the process to the end of the task
_LEAST = 20.0  # of which the task has so much, however long it took to import the runtimes
_STARTING = 300.0  # for importing them, which no model prolongs
_BYTES = 1_900_000_000  # of memory, the runtimes' own included
_TIMES_FILE = 16  # as much as a large file, beside the runtimes: a session takes 15 times a frozen graph of 300 MB
_POLL = 0.01 if sys.platform == "linux" else 0.1
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
_LINE = 2**16  # bytes of a report at most
# -P, and the path of this process: a file in the current folder must not hide a package, a package may lie anywhere.
_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from retrain.trust import process; process.main()"
)


@dataclass(frozen=True)
class Outcome:
    """How a task ended: the `reason` why it was stopped or crashed, the `error` that it raised, or neither.

    `complete` says that it would end so every time.
    """

    complete: bool
    reason: str = ""
    error: RetrainError | None = None


_TOO_LONG = Outcome(False, f"takes more than {_SECONDS:.0f} s to be tried")  # other processes may have slowed it


def run(task: Callable[[], bool], runtimes: tuple[str, ...], *, size: int) -> Outcome:
    """Return how a task ends in a process of its own.

    Args:
        task: Can be pickled; returns whether it would end so every time.
        runtimes: Modules to import first.
        size: Bytes of the model.

    Raises:
        OSError: The process could not be started.
    """
    if not sys.executable:
        raise OSError("this program has no interpreter of its own to start")
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    # The model is loaded for a moment, beside whatever uses the GPUs.
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "RETRAIN_TRUST_MODELS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-P", "-c", _CHILD]
    reports: list[Any] = []
    mark = os.urandom(16).hex()  # in front of what the process reports, among what libraries print
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=nowhere, env=env) as child:
        reader = threading.Thread(target=_collect, args=(child.stdout, mark.encode(), reports), daemon=True)
        reader.start()
        try:
            _send(child, pickle.dumps(sys.path) + pickle.dumps((mark, reading_bound(), runtimes, task)))
            stopped = _watch(child, reports, size)
        finally:
            child.kill()
        reader.join()
    return stopped or _outcome(child.returncode, reports)


def _send(child: subprocess.Popen[bytes], request: bytes) -> None:
    with suppress(BrokenPipeError), child.stdin as file:  # type: ignore[union-attr]  # one that has ended is seen below
        file.write(request)


def _collect(output: Any, mark: bytes, reports: list[Any]) -> None:
    """Collect what a process reports, until it ends."""
    while line := output.readline(_LINE):
        if line.startswith(mark):
            reports.append(json.loads(line.removeprefix(mark)))


def _watch(child: subprocess.Popen[bytes], reports: list[Any], size: int) -> Outcome | None:
    """Wait for the end of a process, and return why it must be killed, None where it ended by itself.

    Raises:
        OSError: It does not even start.
    """
    started, ready = time.monotonic(), False
    memory, deadline = _BYTES, started + _STARTING
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL)
            return None
        used = _memory(child.pid)
        if reports and not ready:
            ready, memory = True, max(_BYTES, used + _TIMES_FILE * size)
            deadline = max(started + _SECONDS, time.monotonic() + _LEAST)
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


def _outcome(code: int, reports: list[Any]) -> Outcome:
    """Return how a process that was not killed ended.

    Raises:
        OSError: It did not come as far as the task.
    """
    name = _name_of(code)
    if not reports:
        raise OSError(f"it ended with {name} before it began")
    if len(reports) > 1:
        result = reports[1]
        if result.get("error"):
            return Outcome(False, error=getattr(errors, result["error"])(result["message"]))
        return Outcome(result["complete"], result["reason"])
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
    """Run the task that standard input holds, in the process that `run` starts, and report how it ended."""
    mark, bound, runtimes, task = pickle.load(sys.stdin.buffer)
    bound_reading(bound)

    def report(**row: Any) -> None:
        sys.stdout.write(f"\n{mark}{json.dumps(row)}\n")
        sys.stdout.flush()

    for name in runtimes:
        with suppress(ImportError):  # the task says what is missing
            importlib.import_module(name)
    _limit_itself()
    report()
    try:
        report(complete=bool(task()), reason="")
    except RetrainError as error:
        report(error=type(error).__name__, message=str(error))
    except MemoryError:
        report(complete=True, reason="takes more memory than there is")
    except Exception as error:  # the runtimes raise anything on damaged models
        report(complete=False, reason=f"fails ({first_line(error)[:200]})")
    os._exit(0)  # a runtime that is taken down may hang or crash, and that says nothing of the model


def _limit_itself() -> None:
    """Leave no process behind where the one that watches is killed, and no file where this one crashes."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        signal.alarm(int(2 * _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
