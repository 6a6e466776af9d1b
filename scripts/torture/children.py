"""Runs cases in a long-lived child process, which may crash, hang or take too much memory without harm to others."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

from scripts.torture import cases
from scripts.torture.cases import CRASH, HANG, Outcome
from scripts.torture.inputs import ROOT, Inputs

SECONDS = 60.0  # that a case may take
MEMORY = 2 * 2**30  # bytes that a case may take, more than its process had before
_GROWN = 1.5 * 2**30  # bytes of a child that is replaced between two cases: TensorFlow keeps what it has loaded
_WATCH_SECONDS = 0.1
_START_SECONDS = 60.0  # for imports, which do not count


class Child:
    """A process that runs cases one after another, started when the first comes, and again after its end."""

    def __init__(self, inputs: Inputs, keep: Path | None = None) -> None:
        """Prepare a child for inputs; `keep` is where it copies what a case tried."""
        self._words = [str(inputs.folder), *([str(keep)] if keep else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def run(self, name: str) -> Outcome:
        """Return the outcome of a case."""
        process = self._process or self._start()
        before = memory_of(process.pid)
        process.stdin.write(f"{name}\n".encode())  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        deadline = time.monotonic() + SECONDS
        while not select.select([process.stdout], [], [], _WATCH_SECONDS)[0]:
            taken = memory_of(process.pid) - before
            if taken > MEMORY:
                self._end()
                return Outcome(((CRASH, f"took {taken / 2**30:.1f} GB"),))
            if time.monotonic() > deadline:
                self._end()
                return Outcome(((HANG, f"took more than {SECONDS:.0f} s"),))
        line = process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            return self._crashed(process)
        row = json.loads(line)
        if memory_of(process.pid) > _GROWN:
            self._end()
        return Outcome(tuple((column, note) for column, note in row["problems"]), row["answer"], row["digest"])

    def _start(self) -> subprocess.Popen[bytes]:
        self._messages = TemporaryFile()  # noqa: SIM115 (closed with the process)
        path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "scripts.torture.children", *self._words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            start_new_session=True,
        )
        if not select.select([process.stdout], [], [], _START_SECONDS)[0] or not process.stdout.readline():  # type: ignore[union-attr]
            raise RuntimeError(f"a child does not start: {self._last_messages()}")
        return process

    def _crashed(self, process: subprocess.Popen[bytes]) -> Outcome:
        code = process.wait()
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
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._messages.close()
        self._process = None


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid, _ in _session(process.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def memory_of(session: int) -> int:
    """Return the bytes in memory of all processes of a session, 0 where the system does not say (outside Linux)."""
    return sum(size for _, size in _session(session))


def _session(session: int) -> list[tuple[int, int]]:
    """Return process number and bytes in memory of the processes of a session."""
    found = []
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with suppress(OSError, ValueError, IndexError):
                words = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                if int(words[3]) == session:
                    found.append((int(entry.name), int(words[21]) * os.sysconf("SC_PAGE_SIZE")))
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
