"""A real Ray of three nodes on this machine, whose workers, nodes and command are killed."""

import os
import sys

import pytest
from conftest import ROOT, command

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_kills_lose_and_double_nothing_and_the_graph_is_that_of_a_local_run():
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "TMPDIR": "/tmp"}  # sockets have short paths
    done = command("python", "-m", "scripts.kill_test", "--photos=600", "--kills=4", "--seed=1", cwd=ROOT, env=env)
    assert "600 photos, 4 kills" in done.stdout
    assert "0 lost, 0 doubled, graph identical to a local run's" in done.stdout
