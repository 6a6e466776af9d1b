"""Kills random processes of a cluster run, and compares what comes out with a run on this machine alone.

    python -m scripts.kill_test --photos 20000 --kills 20

Three nodes of Ray run on this machine. While `retrain --cluster` computes the features of many small photos there,
workers, whole nodes and the command itself are killed without warning; a killed node is replaced, and a killed command
is typed again. In the end no photo may lack its features or have them twice, and the graph must be that of a run
without a cluster, byte for byte.
"""

import argparse
import contextlib
import io
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrain.bottlenecks.store import INDEX

NODES, CORES = 3, 1
CLASSES = 40
SIDE = 64  # pixels
FLAGS = (
    "--architecture",
    "mobilenet_bundled",
    "--engine",
    "litert",
    "--how_many_training_steps",
    "100",
    "--folds",
    "0",
)
KINDS = ("worker", "worker", "node", "command")
PAUSE = 0.1  # seconds between two looks
_IDLE = 120.0  # seconds without news after which the next kill comes anyway


@dataclass
class Tally:
    """What a test found."""

    photos: int
    lost: int = 0
    doubled: int = 0
    same_graph: bool = False
    starts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Return whether nothing was lost, doubled or changed."""
        return (self.lost, self.doubled, self.same_graph) == (0, 0, True)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of a {kind}" for kind, count in sorted(self.kills.items()))
        graph = "identical to" if self.same_graph else "DIFFERS from"
        return (
            f"{self.photos} photos, {self.kills.total()} kills ({kills}), {self.starts} starts of the command, "
            f"{self.seconds:.0f} s: {self.lost} lost, {self.doubled} doubled, graph {graph} a local run's."
        )


def main() -> int:
    """Run the test and return 0 if it was passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt") as folder:
        tally = run(Path(folder), photos=args.photos, kills=args.kills, seed=args.seed)
    print(tally)
    return 0 if tally.passed else 1


def run(folder: Path, *, photos: int, kills: int, seed: int) -> Tally:
    """Return what `kills` kills do to a run on so many photos, all in `folder`, whose path must be short."""
    make_photos(folder / "photos", photos)
    command(folder / "local").wait()
    tally, started = Tally(photos), time.monotonic()
    with nodes(folder / "ray") as cluster:
        survive(folder, cluster, tally, kills=kills, rng=random.Random(seed))
    tally.seconds = time.monotonic() - started
    (index,) = (folder / "spread" / "tf_files" / "bottlenecks").glob(f"*/{INDEX}")
    with contextlib.closing(sqlite3.connect(index)) as opened:
        (files,) = opened.execute("SELECT count(row) FROM files").fetchone()
        (vectors,) = opened.execute("SELECT count(*) FROM vectors").fetchone()
    tally.lost, tally.doubled = photos - files, vectors - files
    graphs = [folder / place / "tf_files" / "retrained_graph.pb" for place in ("local", "spread")]
    tally.same_graph = graphs[0].read_bytes() == graphs[1].read_bytes()
    return tally


def make_photos(folder: Path, count: int) -> None:
    """Write small photos of as many colours as classes, no two alike: what follows the end of a JPEG is not shown."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = f"{number % CLASSES:02}"
        if number < 10 * CLASSES:
            colour = np.random.default_rng(number % CLASSES).integers(40, 216, 3)
            pixels = np.clip(colour + rng.integers(-40, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.base").write_bytes(buffer.getvalue())
        base = folder / f"{number % (10 * CLASSES)}.base"
        (folder / name / f"{number:07}.jpg").write_bytes(base.read_bytes() + number.to_bytes(4, "big"))
    for base in folder.glob("*.base"):
        base.unlink()


def command(folder: Path, *flags: str) -> "subprocess.Popen[bytes]":
    """Return `retrain` on the photos beside a folder, in which it works and writes its output to log.txt."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "retrain", str(folder.parent / "photos"), *FLAGS, *flags]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[Any]:
    """Start a head without cores, which is never killed, and nodes with some; give the cluster."""
    os.environ |= {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    folder.mkdir()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": {"prestart_worker_first_driver": False}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=CORES)
        yield cluster
    finally:
        cluster.shutdown()


def survive(folder: Path, cluster: Any, tally: Tally, *, kills: int, rng: random.Random) -> None:
    """Start the command, kill, and start it again until it ends well; kills are spread over the work."""
    place, flags = folder / "spread", ("--cluster", cluster.address)
    process = command(place, *flags)
    tally.starts = 1
    news, since = -1, time.monotonic()
    while process.poll() is None or process.returncode:
        if process.poll() is not None:  # killed, or a shard was hit three times
            process = command(place, *flags)
            tally.starts += 1
        now = done(place)
        if now != news:
            news, since = now, time.monotonic()
        due = tally.photos * (tally.kills.total() + 1) // (kills + 1)
        if tally.kills.total() < kills and (now >= due or time.monotonic() - since > _IDLE):
            kind = rng.choice(KINDS)
            if kill(kind, cluster, process, rng):
                tally.kills[kind] += 1
                since = time.monotonic()
                print(f"{now} photos are done: killed a {kind}", file=sys.stderr, flush=True)
        time.sleep(PAUSE)


def done(place: Path) -> int:
    """Return how many photos have their features in the store."""
    total = 0
    for index in (place / "tf_files" / "bottlenecks").glob(f"*/{INDEX}"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(index)) as opened:
            total += opened.execute("SELECT count(*) FROM vectors").fetchone()[0]
    return total


def kill(kind: str, cluster: Any, process: "subprocess.Popen[bytes]", rng: random.Random) -> bool:
    """Kill a worker, a node or the command; return False where there is none."""
    if kind == "command":
        process.kill()
        process.wait()
        return True
    if kind == "node":
        cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
        cluster.add_node(num_cpus=CORES)
        return True
    import psutil  # which Ray brings

    workers: list[Any] = []
    for node in cluster.worker_nodes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            children = psutil.Process(node.all_processes["raylet"][0].process.pid).children()
            workers += [child for child in children if child.name().startswith("ray::Worker")]
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(sorted(workers, key=lambda worker: worker.pid)).kill()
    return bool(workers)


if __name__ == "__main__":
    sys.exit(main())
