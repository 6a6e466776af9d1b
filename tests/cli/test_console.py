"""Standard error of a command: libraries are silent, and a crash is not."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from retrain.errors import csv_cell

NOISE = "F0000 00:00 the tensor has no shape"
INTERRUPTED = "interrupted. Finished work is kept; run the same command again to resume."
TERMINATED = INTERRUPTED.replace("interrupted", "terminated")
# What is started in the background of a shell ignores Ctrl-C.
HEEDED = "signal.signal(signal.SIGINT, signal.default_int_handler)"
ANSWER = "The process ended unexpectedly. Its last messages:"


def ended(tmp_path, last, shell=""):
    """Run a quietened process that writes as Python and as a C++ library do, and then executes `last`."""
    (tmp_path / "program.py").write_text(
        "import ctypes, os, signal, subprocess, sys\n"
        "from retrain.cli import console\n"
        "def main(arguments):\n"
        "    console.quieten(verbose=False)\n"
        f"    os.write(2, b{NOISE!r} + bytes([10]))\n"
        "    print('said by Python', file=sys.stderr)\n"
        f"    {last}\n"
        "    return 0\n"
        "console.run('program', main)\n"
    )
    return subprocess.run(
        ["bash", "-c", f"exec {sys.executable} program.py {shell}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("last", "code"),
    [("os.abort()", -6), ("ctypes.string_at(0)", -11), ("os.kill(os.getpid(), signal.SIGKILL)", -9)],
)
def test_a_crash_shows_the_last_messages_of_the_libraries(tmp_path, last, code):
    done = ended(tmp_path, last)
    assert done.returncode == code
    assert done.stderr.splitlines() == ["said by Python", ANSWER, NOISE]


def test_of_much_noise_a_crash_shows_the_end(tmp_path):
    done = ended(tmp_path, "[os.write(2, b'%d' % n + b'x' * 1000 + bytes([10])) for n in range(1000)]; os.abort()")
    lines = done.stderr.splitlines()
    assert lines[1] == ANSWER
    assert [line.rstrip("x") for line in lines[2:]] == [str(number) for number in range(960, 1000)]


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        ("pass", 0, []),
        ("return 3", 3, []),
        ("from retrain.errors import UsageError; raise UsageError('no')", 2, ["program: no"]),
        ("raise KeyboardInterrupt", 130, ["", f"program: {INTERRUPTED}"]),
        (f"{HEEDED}; os.kill(os.getpid(), signal.SIGINT); signal.pause()", 130, ["", f"program: {INTERRUPTED}"]),
        ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", 143, ["", f"program: {TERMINATED}"]),
    ],
)
def test_an_orderly_end_shows_nothing_of_the_libraries(tmp_path, last, code, said):
    done = ended(tmp_path, last)
    assert done.returncode == code
    assert done.stderr.splitlines() == ["said by Python", *said]


def test_a_thread_at_work_does_not_hold_up_an_interrupted_process(tmp_path):
    thread = "import threading; threading.Thread(target=threading.Event().wait).start(); "
    done = ended(tmp_path, thread + "raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == f"program: {INTERRUPTED}"


def test_a_child_that_lives_on_holds_nobody_up(tmp_path):
    """It inherits descriptor 2, which must keep neither the last messages nor their reader waiting."""
    child = "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], stdout=subprocess.DEVNULL)"
    done = ended(tmp_path, f"print({child}.pid, flush=True); os.abort()")
    os.kill(int(done.stdout), signal.SIGKILL)  # it is still there
    assert done.stderr.splitlines()[-1] == NOISE


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_error_stays_closed_and_costs_nothing(tmp_path, closed):
    done = ended(tmp_path, "open('done', 'w').close()", closed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "done").exists()
    assert ended(tmp_path, "os.abort()", closed).returncode == -6


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("roses/a b.jpg", "roses/a b.jpg"),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\t=1+1\r\n", "\\t=1+1\\r\\n"),
        ("\x1b[31m\x9b31m\udcff\u202e", "\\x1b[31m\\x9b31m\\udcff\\u202e"),
        ("Screenshot 9.41\u202fAM.png", "Screenshot 9.41\u202fAM.png"),
        ("a=1", "a=1"),
    ],
)
def test_cells_are_neither_formulas_nor_commands_to_a_terminal(text, cell):
    assert csv_cell(text) == cell


def test_too_little_memory_is_one_line(tmp_path):
    done = ended(tmp_path, "bytearray(2**62)")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "program: there is not enough memory. Give smaller batches, or fewer steps."
    )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_while_python_ends_shows_no_traceback():
    code = (
        "import atexit, os, signal\nfrom retrain.cli.console import run\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\nrun('x', lambda arguments: 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


HEEDING = (
    "import threading; from contextlib import ExitStack; asked = threading.Event()\n"
    f"    {HEEDED}; stack = ExitStack(); stack.enter_context(console.heed_first_interrupt(asked))\n"
    "    os.kill(os.getpid(), signal.SIGINT); asked.wait()\n    "
)
SAID = "Ctrl-C: fine-tuning ends here and exports its best. A second one ends at once."
AGAIN = "os.kill(os.getpid(), signal.SIGINT); signal.pause()"


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (f"{HEEDING}stack.close()", 0, [SAID]),
        (f"{HEEDING}{AGAIN}", 130, [SAID, "", f"program: {INTERRUPTED}"]),
        (f"{HEEDING}stack.close(); {AGAIN}", 130, [SAID, "", f"program: {INTERRUPTED}"]),
        (f"{HEEDING}{AGAIN.replace('INT', 'TERM')}", 143, [SAID, "", f"program: {TERMINATED}"]),
    ],
)
def test_a_first_interrupt_asks_and_a_second_one_interrupts(tmp_path, last, code, said):
    done = ended(tmp_path, last)
    assert done.returncode == code
    assert done.stderr.splitlines() == ["said by Python", *said]


def test_who_ignores_ctrl_c_goes_on_to_do_so(tmp_path):
    """A shell starts what runs in the background so."""
    ignored = HEEDING.replace(HEEDED, "signal.signal(signal.SIGINT, signal.SIG_IGN)").replace("asked.wait()", "pass")
    done = ended(tmp_path, f"{ignored}assert not asked.is_set()")
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["said by Python"]


def test_a_full_disk_behind_standard_output_is_one_line(tmp_path):
    done = ended(tmp_path, "print('found', flush=True)", shell=">/dev/full")
    assert done.returncode == 1
    assert "program: cannot write: No space left on device. Free some space, and run again." in done.stderr
    assert "Traceback" not in done.stderr
