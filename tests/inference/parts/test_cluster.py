"""Labels in parts on a real Ray of three nodes on this machine, photos and parts on a real S3 server."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import command, photo
from label_parts import joined, labelled, parts_in, printed, shared_of
from ray_nodes import ray_nodes, worker_processes

from retrain.cluster.pool import open_cluster
from retrain.inference.lines import CSV, JSON, heading
from retrain.inference.parts import shards, work
from retrain.storage import access
from retrain.storage.folders import folder

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]  # sockets of Ray


@pytest.fixture(scope="module")
def nodes(s3_server):
    with ray_nodes((1, 1, 2), s3_server.env) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(nodes):
    with open_cluster(nodes.address) as opened:
        yield opened


def test_a_cluster_writes_the_parts_of_one_machine_and_no_kill_loses_or_doubles_a_line(
    model, photos, nodes, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(shards, "PHOTOS", 1)
    killed = []

    def kill(done, total):
        node = (nodes.head_node, *nodes.worker_nodes)[len(killed) % 3]
        if len(killed) < 3:
            killed.extend(process.kill() or process.pid for process in worker_processes(node)[:1])

    summary = labelled(shared_of(work.shipped(model), tmp_path / "out"), ["photos"], cluster, advance=kill)
    assert len(killed) == 3
    assert joined(tmp_path / "out", CSV) == printed(model, ["photos"], CSV)
    assert (summary.photos, summary.parts, summary.unreadable) == (23, 23, 1)
    assert summary.nodes.total() == 23
    assert len(parts_in(tmp_path / "out")) == 23


def test_photos_and_parts_may_be_on_object_storage(model, photos, bucket, cluster):
    url = bucket.upload(photos, "photos")
    bucket.put("photos/empty.jpg", b"")
    results = folder(f"{bucket.url}/labels")
    summary = labelled(shared_of(work.shipped(model), results, form=JSON), [url], cluster)
    names = [file.path for file in access.of(results).entries().files]
    assert len(names) == summary.parts == 5
    assert b"".join(access.of(results).read(name) for name in names).decode() == printed(model, [url], JSON)
    assert summary.unreadable == 2
    again = labelled(shared_of(model, results, form=JSON), [url])
    assert (again.here, again.unreadable) == (5, 2)


def test_a_command_that_was_killed_goes_on_where_it_was(model, nodes, tmp_path):
    one = photo(tmp_path / "photos" / "0000.png", (9, 200, 9))
    for number in range(1, 3500):
        os.link(one, one.with_name(f"{number:04}.png"))
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no")
    words = ["label_image", "--graph", model.path, "--top_k", "2", "--csv", "photos"]
    there = [*words, "--results", "out", "--cluster", nodes.address, "--cluster_max", "2"]
    script = Path(sys.executable).with_name("label_image")
    with subprocess.Popen([script, *map(str, there[1:])], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("out/part-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    kept = {name: (tmp_path / "out" / name).stat().st_ino for name in parts_in(tmp_path / "out")}
    done = command(*there, cwd=tmp_path, code=1)
    assert "4 parts in out" in done.stdout
    assert done.stderr.endswith("label_image: 1 photo could not be read: its line says why\n")
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in kept} == kept
    assert heading(CSV) + joined(tmp_path / "out", CSV) == command(*words, cwd=tmp_path, code=1).stdout
