"""Measures on this machine what `python -m scripts.scale` reports, and says it in lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scripts.benchmark.bench import LITE, Bench, engine_of, photo_paths
from scripts.benchmark.commands import copies
from scripts.scale import steps
from scripts.scale.figures import Figures
from scripts.scale.overhead import Overhead, cluster_of_its_own, overhead
from scripts.scale.servers import listing_server, moto

from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.shards import PHOTOS
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.storage import access
from retrain.storage.folders import RemoteFolder

_FLOWERS = "flowers_1100"


@dataclass(frozen=True)
class Steps:
    """What was measured of single steps: `figures` with S3 on this machine, and what differs on its disk.

    `disk_reading` and `disk_committing` are as in `Figures`.
    """

    figures: Figures
    merging: list[steps.Merging]
    dimension: int
    disk_reading: list[float]
    disk_committing: list[float]

    def lines(self) -> list[str]:
        """Return rows of a table."""
        found, part = self.figures, self.dimension * 4 * PHOTOS
        first, last = (f"{1 / each.seconds:.0f} commits/s until {each.rows:,} rows" for each in self._ends)
        return [
            "| step | seconds: median | mean | 99th of 100 | most |",
            "|---|---|---|---|---|",
            _spread("a photo read from S3", found.reading),
            _spread("a photo read from the disk", self.disk_reading),
            _spread("a photo decoded and run, on one core", found.computing),
            _spread("a shard's part and commit, to S3", found.committing),
            _spread("a shard's part and commit, to the disk", self.disk_committing),
            f"| a photo read from S3, on one core | | {found.handling:.3g} | | |",
            f"| a page of {PHOTOS} names from S3: waiting, a core | | {found.answer:.3g}, {found.page:.3g} | | |",
            f"| a shard cut and handed out, a core | | {found.cut:.3g} | | |",
            f"| a worker opened | | {found.opening:.3g} | | |",
            "",
            f"The reducer takes {found.merge:.3g} s of a core for a commit: at most {1 / found.merge:.0f} commits/s, "
            f"{part / found.merge / 1e6:.0f} MB/s. By the clock it was {first}, {last}.",
        ]

    @property
    def _ends(self) -> tuple[steps.Merging, steps.Merging]:
        return self.merging[0], self.merging[-1]


def _spread(what: str, seconds: Sequence[float]) -> str:
    values = np.array(seconds)
    cells = [np.median(values), values.mean(), np.quantile(values, 0.99), values.max()]
    return f"| {what} | {' | '.join(f'{value:.3g}' for value in cells)} |"


def measure_overhead(bench: Bench) -> Overhead:
    """Measure a cluster's filling of a store beside the local one."""
    count, rounds = (1100, 1) if bench.quick else (4000, 3)
    photos = copies(bench.photos(_FLOWERS), bench.folder / "photos", count)
    extractor = FeatureExtractor(photos, engine_of(bench.backbone(LITE)))
    with cluster_of_its_own() as cluster:
        return overhead(extractor, photo_paths(photos, None), bench.folder, cluster, rounds)


def measure_steps(bench: Bench) -> Steps:
    """Measure the steps of a computation on a cluster."""
    photos = bench.photos(_FLOWERS)
    paths = photo_paths(photos, 256 if bench.quick else None)
    extractor = FeatureExtractor(photos, engine_of(bench.backbone(LITE)))
    dimension = extractor.runner.backbone.dimension
    merging = steps.merging(bench.folder / "merging", dimension, 10 if bench.quick else 50, 1 if bench.quick else 10)
    with moto("scale") as bucket:
        reading, handling, committing = _through_s3(bucket, photos, paths, dimension)
    with listing_server(photos, 20_000 if bench.quick else 100_000, classes=4) as bucket:
        answer, page = steps.listing(bucket)
    with cluster_of_its_own() as cluster:
        opening, handing = steps.handing_out(cluster, 100 if bench.quick else 1000)
    names = [f"class{number // 1000:03d}/{number % 1000:07d}.jpg" for number in range(20_000)]
    figures = Figures(
        reading,
        handling,
        steps.running(extractor, paths),
        committing,
        opening,
        answer,
        page,
        cut=steps.cutting(extractor, names, bench.folder) + handing,
        merge=max(each.own for each in merging),
    )
    disk = steps.reading(photos, paths), steps.committing(Ledger(bench.folder / "parts"), dimension, len(committing))
    return Steps(figures, merging, dimension, *disk)


def _through_s3(
    bucket: RemoteFolder, photos: Path, paths: Sequence[str], dimension: int
) -> tuple[list[float], float, list[float]]:
    """Return the seconds of reading single photos, those of a core for one of many, and of committing a shard."""
    remote = bucket / "photos"
    for path in paths:
        access.of(remote).write(path, (photos / path).read_bytes())
    committing = steps.committing(Ledger(bucket / "parts"), dimension, math.ceil(len(paths) / 32))
    return steps.reading(remote, paths), steps.handling(remote, paths), committing
