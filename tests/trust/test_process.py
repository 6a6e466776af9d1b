"""Tasks end as they should, or are stopped."""

import os
import signal
import sys
import time
from functools import partial

import numpy as np
import pytest

from retrain.errors import GraphError
from retrain.trust import process


def refused():
    raise GraphError("as here, 'ä'.")


def fill(numbers):
    return bool(np.full(numbers, 1.0).sum())


def printing():
    sys.stdout.write('\nretrain {"complete": false}\nno end of the line ' + "x" * 200_000)
    return True


def signalled(number):
    os.kill(os.getpid(), number)
    time.sleep(60)
    return True


def run(task, size=0):
    return process.run(task, ("no_such_package", "json"), size=size)


@pytest.mark.slow
def test_a_task_ends_as_it_ends_here():
    assert run(partial(bool, 1)) == process.Outcome(True)
    assert run(partial(bool, 0)) == process.Outcome(False)
    assert run(printing) == process.Outcome(True)
    outcome = run(refused)
    assert (type(outcome.error), str(outcome.error)) == (GraphError, "as here, 'ä'.")
    assert run(partial(int, "a")).reason == "fails (invalid literal for int() with base 10: 'a')"


@pytest.mark.slow
def test_a_crash_is_named_and_holds_for_ever():
    assert run(os.abort) == process.Outcome(True, "crashes its runtime (SIGABRT)")
    assert run(partial(signalled, signal.SIGSEGV)) == process.Outcome(True, "crashes its runtime (SIGSEGV)")


@pytest.mark.slow
def test_what_others_have_ended_is_no_verdict():
    """The system kills processes where memory runs out: another time, there may be enough."""
    assert run(partial(signalled, signal.SIGKILL)) == process.Outcome(
        False, "ended the process that tried it (SIGKILL)"
    )


@pytest.mark.slow
def test_memory_is_bounded_by_two_gigabytes_or_the_file():
    outcome = run(partial(fill, 2**28))
    assert outcome == process.Outcome(True, "takes more than 1.9 GB of memory")
    assert run(partial(fill, 2**28), size=10**9) == process.Outcome(True)  # 2.1 GB, and 4 GB are accepted


@pytest.mark.slow
def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(process, "_SECONDS", 2.0)
    monkeypatch.setattr(process, "_LEAST", 1.0)
    started = time.monotonic()
    outcome = run(partial(time.sleep, 600))
    assert not outcome.complete
    assert "to be tried" in outcome.reason
    assert time.monotonic() - started < 30


def test_a_file_of_a_packages_name_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    for name in ("json", "retrain", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert run(partial(bool, 1)) == process.Outcome(True)


def test_a_process_that_does_not_start_is_said(monkeypatch):
    monkeypatch.setattr(process, "_CHILD", "raise SystemExit(3)")
    with pytest.raises(OSError, match="it ended with exit code 3 before it began"):
        run(partial(bool, 1))
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(OSError, match="no interpreter"):
        run(partial(bool, 1))
