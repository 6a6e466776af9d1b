"""Where a cluster is, and what stays on this machine of one that was started for a run."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import ROOT
from ray_nodes import short_folder

from retrain.cluster import starting
from retrain.cluster.pool import open_cluster
from retrain.errors import ClusterError, UsageError

PROGRAM = """
import os, signal, sys
from cluster_work import open_worker
from retrain.cluster.pool import Task, open_cluster

def todo():
    yield Task("first", ("about",))
    if sys.argv[1:]:
        yield Task("never", ("wait", "/never"))

with open_cluster("auto", most=1) as cluster:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert cluster.dashboard, "is named while it runs"
    for outcome in cluster.run(open_worker, {}, todo()):
        print(outcome.result["pid"], flush=True)
"""


STARTING = """
from retrain.cli import console
from retrain.cluster.pool import open_cluster

def start(arguments):
    with open_cluster("auto"):
        pass

console.run("program", start)
"""


@pytest.mark.parametrize(
    "text",
    ["", "head", "s3://bucket:1", "user:secret@host:6379", "http://host:80", "host:port", "ray://host:1", "a b:1"],
)
def test_what_is_no_address_is_wrong_usage(text):
    with pytest.raises(UsageError, match="Give auto, or HOST:PORT") as raised:
        starting.check_address(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text", ["auto", "10.0.0.1:6379", "head.local:6379", "[::1]:6379"])
def test_addresses_are_what_ray_takes(text):
    assert starting.check_address(text) == text


@pytest.mark.parametrize("address", ["nonsense", "ray://user:secret@head:10001", "http://head"])
def test_what_is_no_address_in_the_environment_is_said_of_the_environment(monkeypatch, address):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match="RAY_ADDRESS is no address") as raised, open_cluster("auto"):
        pass
    assert "secret" not in str(raised.value)


@pytest.mark.slow
def test_where_no_ray_answers_is_said_within_seconds():
    """The port is taken by something that never answers; Ray would try for minutes, and then end the process."""
    pytest.importorskip("ray")
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        said = rf"^--cluster {address}: cannot join {address}: no Ray answers there"
        with pytest.raises(ClusterError, match=said), open_cluster(address):
            pass
    assert time.monotonic() - began < 60


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    said = r"^--cluster needs Ray: pip install 'retrain-images\[cluster\]'$"
    with pytest.raises(ClusterError, match=said), open_cluster("auto"):
        pass


@pytest.fixture
def folder():
    """A folder for the temporary files of a program, which is empty."""
    with short_folder() as made:
        yield made


def begin(program, folder, *arguments):
    """Begin a program that has its temporary files in a folder, and its terminal's signals for itself."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"TMPDIR": str(folder), "RAY_TMPDIR": str(folder)},
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("ending", [None, signal.SIGINT, signal.SIGKILL])
def test_a_ray_that_was_started_ends_with_its_program_and_prints_nothing(folder, monkeypatch, ending):
    pytest.importorskip("ray")
    program = begin(PROGRAM, folder, *(["wait"] if ending else []))
    worker = program.stdout.readline().strip()
    assert worker, program.stderr.read()
    if ending:  # Ctrl-C reaches all processes of a terminal
        (os.kill if ending == signal.SIGKILL else os.killpg)(program.pid, ending)
    out, err = program.communicate(timeout=60)
    assert out == ""
    if ending is None:
        assert (err, program.returncode) == ("", 0)
    elif ending == signal.SIGINT:
        assert "KeyboardInterrupt" in err
        assert "ray" not in err.splitlines()[-1]
    deadline = time.monotonic() + 60
    while processes(folder) or Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, processes(folder)
        time.sleep(0.05)
    left = list(folder.iterdir())
    assert len(left) == (1 if ending == signal.SIGKILL else 0)
    if left:  # the next program that starts one removes it
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with ExitStack() as stack:
            made = starting._own_folder(stack)
            assert list(folder.iterdir()) == [made]
        assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_ray_that_was_interrupted_while_it_started_leaves_nothing(folder, ending, code):
    """The agents that its raylet has just begun would stay for good, and write into the folder that is removed."""
    pytest.importorskip("ray")
    program = begin(STARTING, folder)
    deadline = time.monotonic() + 60
    while not agents(folder):
        assert time.monotonic() < deadline
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(ending)
    _, err = program.communicate(timeout=60)
    assert program.returncode == code, err
    assert len(err.split("\n")) == 3
    assert processes(folder) + writers(folder) == []
    assert list(folder.iterdir()) == []


def processes(folder):
    """Return the processes that name a folder on their command line."""
    return [process for process, line in lines() if os.fsencode(folder) + b"/" in line]


def agents(folder):
    """Return the processes in a folder that the raylet of a Ray begins first."""
    return [process for process, line in lines() if os.fsencode(folder) in line and b"/agent.py\0" in line]


def lines():
    """Yield the number of each process, and its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.parent.name, path.read_bytes()
        except OSError:  # it has ended
            continue


def writers(folder):
    """Return the files in a folder that processes have open."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            found += [name for name in [str(path.readlink())] if name.startswith(f"{folder}/")]
        except OSError:
            continue
    return found
