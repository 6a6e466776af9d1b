"""A real Ray of three nodes on this machine, whose workers, nodes and command are killed."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import kill_test

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_kills_lose_and_double_nothing_and_the_graph_is_that_of_a_local_run(monkeypatch):
    folder = Path(f"/tmp/kt{os.getpid()}")  # Ray makes sockets below it, whose paths are short
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder / "ray"))
    try:
        tally = kill_test.run(folder, photos=600, kills=4, seed=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert tally.kills.total() == 4
    assert tally.passed, tally
