"""Runs cases in a long-lived child process, which may crash, hang or take too much memory without harm to others."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Self

from scripts.torture import cases
from scripts.torture.cases import CRASH, HANG, Outcome
from scripts.torture.inputs import ROOT, Inputs, environment

SECONDS = 60.0 * min(2, os.cpu_count() or 1)  # of processor time that a case may take: 60 seconds where it is alone
_WAITING_SECONDS = 5 * 60.0  # on a busy machine, or for nothing
MEMORY = 2 * 2**30  # bytes that a case may take, more than its process had before
_GROWN = 1.5 * 2**30  # bytes of a child that is replaced between two cases: TensorFlow keeps what it has loaded
_WATCH_SECONDS = 0.1
_START_SECONDS = 60.0  # for imports, which do not count


class StoppedError(Exception):
    """The torture itself is to end: what a process of it did since says nothing."""


class _Processes:
    """All processes that the cases have started, ended together."""

    def __init__(self) -> None:
        self._lock, self._running, self._ended = threading.Lock(), set[subprocess.Popen[bytes]](), False

    def add(self, process: "subprocess.Popen[bytes]") -> None:
        """Take a process that leads a session, which `end` ends."""
        with self._lock:
            self._running.add(process)
            ended = self._ended
        if ended:
            kill_session(process)

    def remove(self, process: "subprocess.Popen[bytes]") -> None:
        """Forget a process that has ended."""
        with self._lock:
            self._running.discard(process)

    def check(self) -> None:
        """Raise StoppedError if all were ended."""
        if self._ended:
            raise StoppedError

    def end(self) -> None:
        """End all, now and whenever one starts."""
        with self._lock:
            self._ended, running = True, list(self._running)
        for process in running:
            _kill(process)


PROCESSES = _Processes()


class Child:
    """A process that runs cases one after another, started when the first comes, and again after its end."""

    def __init__(self, inputs: Inputs, keep: Path | None = None, *, trusting: bool = True) -> None:
        """Prepare a child for inputs; `keep` is where it copies what a case tried.

        A `trusting` one runs models without the trial in a process of their own that a stranger's model gets, which
        takes seconds. What harms it is run again with that trial, and counts only if that does not help.
        """
        self._inputs, self._keep, self._trusting = inputs, keep, trusting
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def run(self, name: str) -> Outcome:
        """Return the outcome of a case."""
        outcome = self._try(name)
        if not self._trusting or not {CRASH, HANG} & {column for column, _ in outcome.problems}:
            return outcome
        with Child(self._inputs, self._keep, trusting=False) as careful:
            return careful.run(name)

    def _try(self, name: str) -> Outcome:
        process = self._process or self._start()
        before, at_start = usage_of(process.pid)
        with suppress(BrokenPipeError):  # it has ended meanwhile: then it answers nothing
            process.stdin.write(f"{name}\n".encode())  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        deadline = time.monotonic() + _WAITING_SECONDS
        while not select.select([process.stdout], [], [], _WATCH_SECONDS)[0]:
            memory, processor = usage_of(process.pid)
            if memory - before > MEMORY:
                self._end()
                return Outcome(((CRASH, f"took {(memory - before) / 2**30:.1f} GB"),))
            if processor - at_start > SECONDS or time.monotonic() > deadline:
                self._end()
                return Outcome(((HANG, f"took more than {processor - at_start:.0f} s of processor time"),))
        line = process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            return self._crashed(process)
        row = json.loads(line)
        if usage_of(process.pid)[0] > _GROWN:
            self._end()
        return Outcome(tuple((column, note) for column, note in row["problems"]), row["answer"], row["digest"])

    def _start(self) -> subprocess.Popen[bytes]:
        self._messages = TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._scratch = TemporaryDirectory(prefix="torture_")  # a process that is killed removes nothing itself
        folders = map(str, filter(None, (self._inputs.folder, self._keep)))
        trust = {"RETRAIN_TRUST_MODELS": "1"} if self._trusting else {}
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "scripts.torture.children", *folders],
            cwd=ROOT,
            env={**environment(Path(self._scratch.name)), **trust},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            start_new_session=True,
        )
        PROCESSES.add(process)
        if not select.select([process.stdout], [], [], _START_SECONDS)[0] or not process.stdout.readline():  # type: ignore[union-attr]
            raise RuntimeError(f"a child does not start: {self._last_messages()}")
        return process

    def _crashed(self, process: subprocess.Popen[bytes]) -> Outcome:
        code = process.wait()
        PROCESSES.check()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        note = f"{name}: {self._last_messages()}"
        self._end()
        return Outcome(((CRASH, note),))

    def _last_messages(self) -> str:
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").splitlines()
        return " | ".join(lines[-6:])[-400:]

    def _end(self) -> None:
        if self._process is None:
            return
        kill_session(self._process)
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._messages.close()
        self._scratch.cleanup()
        self._process = None


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and all that it started."""
    _kill(process)
    process.wait()
    PROCESSES.remove(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid, _ in _session(process.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def usage_of(session: int) -> tuple[int, float]:
    """Return bytes in memory and seconds of processor time of all processes of a session; 0 outside Linux."""
    rows = [words for _, words in _session(session)]
    memory = sum(int(words[21]) * os.sysconf("SC_PAGE_SIZE") for words in rows)
    return memory, sum(int(words[11]) + int(words[12]) for words in rows) / os.sysconf("SC_CLK_TCK")


def _session(session: int) -> list[tuple[int, list[bytes]]]:
    """Return number and state, as in proc(5) behind the name, of each process of a session."""
    found = []
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            with suppress(OSError, ValueError, IndexError):
                words = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if entry.name.isdigit() and int(words[3]) == session:
                    found.append((int(entry.name), words))
    return found


def serve() -> None:
    """Run the cases whose names come on standard input, and write their outcomes to what was standard output."""
    import faulthandler

    faulthandler.enable()
    inputs = Inputs(Path(sys.argv[1]))
    keep = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # libraries print what they like
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            outcome = cases.run(line.strip(), inputs, keep)
            print(json.dumps(asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
