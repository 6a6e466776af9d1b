"""What a worker does: it opens the network once, computes shard after shard, writes a part of each and commits it."""

import hashlib
import os
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retrain import files
from retrain.backbones import engines, quantized
from retrain.backbones.loading import Backbone, write_with_checksum
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks import computing
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.parts import STAGES, Commit, pack, part_name
from retrain.bottlenecks.cluster.shards import Shard
from retrain.bottlenecks.computing import FeatureExtractor, Stopwatch
from retrain.bottlenecks.store import Entry
from retrain.cluster.tasks import Task
from retrain.data.variants import Distorter
from retrain.errors import ClusterError
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.interface import Listed
from retrain.storage.listings import Listing

_PREFIX = "retrain_network_"  # of the folder in which a worker keeps the network; its process follows
WON, LOST = "won", "lost"  # whose commit counts, this worker's or another one's
_OF_STOPWATCH = {
    "reading": "reading",
    "decoding": "decoding",
    "computing": "running",
}  # stage of a commit -> that of a stopwatch


@dataclass(frozen=True)
class Shared:
    """What all workers get: where photos are and parts go, and the network with the engine that the driver chose.

    `network` maps the names of its files to their bytes; `largest` is what `files.bound_reading` was given.
    """

    images: Folder
    ledger: Ledger
    distorter: Distorter
    backbone: Backbone
    engine: str
    precision: str
    network: Mapping[str, bytes] = field(repr=False)
    largest: int | None = None


def shared_of(extractor: FeatureExtractor, ledger: Ledger) -> Shared:
    """Return what workers need to compute what an extractor computes here.

    Raises:
        BackboneError: A file of the network cannot be read or made.
    """
    runner = extractor.runner
    engine = runner.engine
    if engine == engines.AUTO:
        engine = engines.TENSORFLOW if runner.batched else engines.LITERT
    if engine == engines.TENSORFLOW:
        path: Path | None = runner.backbone.graph
    else:
        path = quantized.path_of(runner.backbone) if runner.precision == engines.INT8 else runner.model
    network = {path.name: files.read_regular(path, files.MODEL_BYTES)} if path else {}
    images = extractor.image_dir.absolute() if isinstance(extractor.image_dir, Path) else extractor.image_dir
    backbone = replace(runner.backbone, graph=Path(runner.backbone.graph.name))
    largest = files.reading_bound()
    return Shared(images, ledger, extractor.distorter, backbone, engine, runner.precision, network, largest)


def open_worker(cores: int, shared: Mapping[str, Any]) -> Callable[[Task, int], str]:
    """Return what computes shards on so many cores; `shared` has a `Shared`.

    Raises:
        RetrainError: This machine does not have the photos, or cannot run the network.
    """
    mine: Shared = shared["shared"]
    files.bound_reading(mine.largest)
    if isinstance(mine.images, Path) and not mine.images.is_dir():
        raise ClusterError(
            f"{platform.node()} has no folder {mine.images}. Photos lie on a disk that all nodes have under the same "
            f"name, or at a URL."
        )
    _remove_left_overs()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_"))
    for name, data in mine.network.items():
        write_with_checksum(folder / name, data)
    backbone = replace(mine.backbone, graph=folder / mine.backbone.graph.name)
    runner = BackboneRunner(backbone, _ignore, engine=mine.engine, precision=mine.precision, threads=cores)
    if not runner.batched:
        runner.runner()  # what cannot run here ends the worker now
    worker = Worker(FeatureExtractor(mine.images, runner, mine.distorter), mine.ledger)
    weakref.finalize(worker, shutil.rmtree, folder, ignore_errors=True)
    return worker


def _remove_left_overs() -> None:
    """Remove the networks of workers that were killed on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*_*"):
        process = folder.name.removeprefix(_PREFIX).partition("_")[0]
        if os.name == "posix" and process.isdigit():
            try:
                os.kill(int(process), 0)  # asks only
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:  # of another user
                continue


@dataclass(frozen=True)
class Worker:
    """Computes shards."""

    extractor: FeatureExtractor
    ledger: Ledger

    def __call__(self, task: Task, attempt: int) -> str:
        """Compute a shard, unless it is committed, and return `WON` if this worker's commit counts, else `LOST`.

        Raises:
            StorageError: The photos or the parts cannot be reached.
        """
        shard: Shard = task.value
        if self.ledger.is_committed(shard.id):
            return LOST
        started = time.perf_counter()
        entries, seconds = compute_shard(shard, self.extractor)
        writing = time.perf_counter()
        name, data = part_name(shard.id, attempt), pack(entries, self.extractor.runner.backbone.dimension)
        self.ledger.write_part(name, data)
        seconds["writing"] = time.perf_counter() - writing
        paths = shard.variants.paths
        commit = Commit(
            shard.id,
            name,
            hashlib.sha256(data).hexdigest(),
            str(self.extractor.image_dir.resolve()),
            variants=len(entries),
            rejected={path: e.reason for path, e in zip(paths, entries, strict=True) if e.reason is not None},
            seconds=seconds,
            took=time.perf_counter() - started,
            node=platform.node(),
            time=time.time(),
        )
        return WON if self.ledger.publish(commit) else LOST


def compute_shard(shard: Shard, extractor: FeatureExtractor) -> tuple[list[Entry], dict[str, float]]:
    """Return the result of each variant of a shard, and the seconds of each of `STAGES`.

    Raises:
        StorageError: The photos cannot be reached.
    """
    watch = Stopwatch()
    extractor = replace(extractor, stopwatch=watch)
    if isinstance(extractor.image_dir, RemoteFolder):
        _remember(shard, extractor.image_dir)
    entries: dict[int, Entry] = {}
    todo = range(len(shard.variants))
    for results in computing.compute_results(shard.variants, todo, extractor, lambda key: None):
        entries |= {result.position: result.entry for result in results}
    seconds = dict.fromkeys(STAGES, 0.0) | {stage: watch.seconds[mine] for stage, mine in _OF_STOPWATCH.items()}
    return [entries[position] for position in todo], seconds


def _remember(shard: Shard, folder: RemoteFolder) -> None:
    """Let the photos of a shard have the stamps with which the driver listed them: the server is not asked again."""
    if access.listed_stamp(folder, shard.variants.paths[0]) == shard.stamps[0]:
        return  # this process is the driver, which knows all
    listings: dict[str, Listing] = {}
    for path, stamp in dict(zip(shard.variants.paths, shard.stamps, strict=True)).items():
        if stamp is not None:
            listings.setdefault(path.rpartition("/")[0], Listing()).add([Listed(path, stamp)])
    access.remember(folder, listings)


def _ignore(line: str) -> None:
    """Take warnings, which the driver has given."""
