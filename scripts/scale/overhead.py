"""Measures what a cluster costs on one machine: its filling of a store beside the local one, in turns."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from scripts.benchmark.bench import seconds_of

from retrain import workers
from retrain.bottlenecks import computing
from retrain.bottlenecks.cluster.computing import ClusterComputing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.cluster.pool import Cluster, open_cluster
from retrain.data.variants import Variant


@dataclass(frozen=True)
class Overhead:
    """Seconds of both ways, in turns, of a number of photos; those of a cluster with one photo are its `opening`."""

    photos: int
    local: list[float]
    cluster: list[float]
    opening: list[float]

    @property
    def share(self) -> float:
        """Return the cluster's speed as a share of the local one's, the opening of its workers left out."""
        rounds = zip(self.local, self.cluster, self.opening, strict=True)
        return median(mine / (ours - opening) for mine, ours, opening in rounds)

    @property
    def share_with_opening(self) -> float:
        """Return the cluster's speed as a share of the local one's."""
        return median(mine / ours for mine, ours in zip(self.local, self.cluster, strict=True))

    def lines(self) -> list[str]:
        """Return what was measured in a sentence."""
        local, cluster = (f"{self.photos / median(seconds):.0f}" for seconds in (self.local, self.cluster))
        return [
            f"{self.photos:,} photos, medians of {len(self.local)} rounds: {local} photos/s here, {cluster} on a "
            f"cluster of this machine, whose workers take {median(self.opening):.1f} s to open. The cluster has "
            f"{self.share:.2f} of the local speed, {self.share_with_opening:.2f} with the opening (must: 0.9)."
        ]


@contextlib.contextmanager
def cluster_of_its_own() -> Iterator[Cluster]:
    """Start Ray on this machine, with as many cores as this process has; one that runs here is not joined."""
    # Else whatever else runs here would take the workers' cores first.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    import ray

    ray.init(address="local", num_cpus=workers.cores(), log_to_driver=False, logging_level="CRITICAL")
    try:
        with open_cluster("auto") as cluster:
            yield cluster
    finally:
        ray.shutdown()


def overhead(
    extractor: FeatureExtractor, paths: Sequence[str], folder: Path, cluster: Cluster, rounds: int
) -> Overhead:
    """Measure both ways with the same photos and cores, each into new stores, once in each round."""
    elsewhere = ClusterComputing(cluster, folder / "parts", 1, lambda line: None)
    spread = dataclasses.replace(extractor, elsewhere=elsewhere)
    found = Overhead(len(paths), [], [], [])
    for number in range(rounds):
        turns = [
            (found.local, extractor, paths),
            (found.opening, spread, paths[:1]),
            (found.cluster, spread, paths),
        ]
        for way, (seconds, mine, some) in enumerate(turns if number % 2 else reversed(turns)):
            seconds.append(_fill(mine, some, folder / f"store_{number}_{way}"))
    return found


def _fill(extractor: FeatureExtractor, paths: Sequence[str], folder: Path) -> float:
    variants = [Variant(path) for path in paths]
    with Store(folder, dimension=extractor.runner.backbone.dimension) as store:
        return seconds_of(lambda: computing.compute(variants, range(len(paths)), extractor=extractor, store=store))
