"""Measures how long the first vectors of very many photos take: by the command, on a disk and from an S3 server."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.bench import LITE, Bench, seconds_of
from scripts.scale.overhead import cluster_of_its_own
from scripts.scale.servers import listing_server

from retrain.data.dataset import scan
from retrain.errors import RetrainError
from retrain.storage.folders import Folder

_CLASSES = 1000
_SECONDS = 1200  # until the first vectors must be there


@dataclass(frozen=True)
class Million:
    """Seconds until all names are listed, and until the command has the first vectors in its store."""

    names: int
    disk_listed: float
    disk_first: float
    s3_listed: float
    s3_first: float

    def lines(self) -> list[str]:
        """Return what was measured in a sentence."""
        return [
            f"{self.names:,} photos in {_CLASSES:,} class folders: all are listed in {self.disk_listed:.0f} s from the "
            f"disk and in {self.s3_listed:.0f} s from an S3 server on this machine; the command has the first vectors "
            f"after {self.disk_first:.0f} s and {self.s3_first:.0f} s (must: 60 s)."
        ]


def measure_million(bench: Bench) -> Million:
    """Measure both, the photos on the disk being hard links to a thousand files."""
    names = 20_000 if bench.quick else 10**6
    flowers = bench.photos("flowers_1100")
    tree = _linked(flowers, bench.folder / "photos", names)
    # The server first: the workers need its environment.
    with listing_server(flowers, names, _CLASSES) as bucket, cluster_of_its_own():
        disk = seconds_of(lambda: scan(tree)), _first_vectors(bench, tree, "disk")
        s3 = seconds_of(lambda: scan(bucket)), _first_vectors(bench, bucket, "s3")
    return Million(names, *disk, *s3)


def _linked(source: Path, folder: Path, count: int) -> Path:
    """Return a folder with so many photos, which are hard links to copies of those of a folder."""
    folder.mkdir()
    originals = folder.with_name("originals")
    originals.mkdir()
    files = []
    for number, photo in enumerate(sorted(source.rglob("*.jpg"))):
        files.append(shutil.copyfile(photo, originals / f"{number}.jpg"))
    each = count // _CLASSES
    for number in range(_CLASSES):
        below = folder / f"class{number:03d}"
        below.mkdir()
        for photo in range(each):
            os.link(files[(number * each + photo) % len(files)], below / f"{photo:07d}.jpg")
    return folder


def _first_vectors(bench: Bench, photos: Folder, name: str) -> float:
    """Return the seconds from the start of `retrain` until its store holds the vectors of a shard; it ends then."""
    stores = bench.folder / f"bottlenecks_{name}"
    words = [
        "-m", "retrain", "--image_dir", str(photos), "--bottleneck_dir", str(stores), "--architecture", LITE,
        "--model_dir", str(bench.data / "models"), "--engine", "litert", "--cluster", _address(),
    ]  # fmt: skip
    started = time.perf_counter()
    with _running(words, bench.folder) as process:
        while time.perf_counter() < started + _SECONDS and process.poll() is None:
            if any(vectors.stat().st_size for vectors in stores.glob("*/vectors.f32")):
                return time.perf_counter() - started
            time.sleep(0.1)
    raise RetrainError(f"`retrain` on {photos} ended without a vector: {_said(bench.folder)}")


def _address() -> str:
    """Return where the Ray that this process has started answers."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@contextlib.contextmanager
def _running(words: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _said(folder: Path) -> str:
    return ((folder / "said").read_text().strip().splitlines() or ["nothing was said"])[-1]
