"""Measures the steps of a computation on a cluster one by one: what a simulation of many nodes draws from."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scripts.benchmark.bench import seconds_of
from scripts.benchmark.fill import in_threads
from scripts.scale.figures import BATCH

from retrain.bottlenecks import computing, photos
from retrain.bottlenecks.cluster import shards
from retrain.bottlenecks.cluster.ledger import Ledger
from retrain.bottlenecks.cluster.parts import STAGES, Commit, pack, part_name
from retrain.bottlenecks.cluster.reducing import Reducer
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Entry, Store
from retrain.cluster.pool import Cluster
from retrain.cluster.tasks import Task
from retrain.data.dataset import scan
from retrain.data.variants import Variant, VariantColumns
from retrain.storage import access
from retrain.storage.folders import Folder, RemoteFolder
from retrain.storage.stamps import Stamp

PAGE = 1000  # names in an answer of S3 to a request for a listing


def reading(folder: Folder, paths: Sequence[str]) -> list[float]:
    """Return the seconds of reading each photo, one after the other, and of hashing it."""
    return [seconds_of(lambda path=path: _read(folder, [path])) for path in paths]


def handling(folder: Folder, paths: Sequence[str]) -> float:
    """Return the seconds of a core for reading a photo, among many that are read at once."""
    own = time.process_time()
    for start in range(0, len(paths), BATCH):
        _read(folder, paths[start : start + BATCH])
    return (time.process_time() - own) / len(paths)


def _read(folder: Folder, paths: Sequence[str]) -> None:
    if isinstance(folder, RemoteFolder):
        for content in access.of(folder).read_many(paths):
            photos.photo_of(Stamp(0, 0, 0), content)
    else:
        for path in paths:
            photos.read_photo(folder, path)


def running(extractor: FeatureExtractor, paths: Sequence[str]) -> list[float]:
    """Return the seconds of a core for each photo, decoded and run, while all cores do the same."""

    def open_worker() -> Callable[[str], float]:
        run = extractor.runner.runner()

        def work(path: str) -> float:
            photo = photos.read_photo(extractor.image_dir, path)
            started = time.thread_time()
            run(extractor.pixel_maker(photo)(""))
            return time.thread_time() - started

        return work

    return list(in_threads(open_worker, paths, extractor.runner.threads))


def committing(ledger: Ledger, dimension: int, count: int) -> list[float]:
    """Return the seconds in which a worker looks for a commit, writes a part, and commits it; they stay."""
    return [seconds_of(lambda shard=shard: _commit(ledger, *shard)) for shard in _shards(dimension, count)]


def _commit(ledger: Ledger, shard_id: str, entries: Sequence[Entry], dimension: int) -> None:
    ledger.is_committed(shard_id)
    name, data = part_name(shard_id, 1), pack(entries, dimension)
    ledger.write_part(name, data)
    seconds = dict.fromkeys(STAGES, 0.0)
    digest = hashlib.sha256(data).hexdigest()
    ledger.publish(
        Commit(shard_id, name, digest, "/photos", len(entries), {}, seconds, took=0.0, node="node", time=time.time())
    )


def _shards(dimension: int, count: int) -> Iterator[tuple[str, list[Entry], int]]:
    """Yield shards of vectors that no photo has."""
    rng = np.random.default_rng(0)
    for number in range(count):
        vectors = rng.random((shards.PHOTOS, dimension), np.float32)
        names = (f"class{number % 1000:03d}/{number // 1000:04d}{photo:03d}.jpg" for photo in range(shards.PHOTOS))
        entries = [
            Entry(name, Stamp(1, 1, 1), key=rng.bytes(32), vector=vector)
            for name, vector in zip(names, vectors, strict=True)
        ]
        yield f"{number:032x}", entries, dimension


@dataclass(frozen=True)
class Merging:
    """Seconds of the reducer for a commit, by the clock and of this process alone, until a store has so many rows."""

    rows: int
    seconds: float
    own: float


def merging(folder: Path, dimension: int, count: int, rounds: int) -> list[Merging]:
    """Return what the reducer takes on this disk, `count` commits in each round, into a store that grows."""
    ledger = Ledger(folder / "parts")
    every = _shards(dimension, count * rounds)
    found = []
    with Store(folder / "store", dimension=dimension) as store:
        for number in range(rounds):
            for _ in range(count):
                _commit(ledger, *next(every))
            os.sync()  # what was written meanwhile is not the reducer's
            ids, started, own = ledger.ids(), time.perf_counter(), time.process_time()
            Reducer(store, ledger).merge_all(ids)
            seconds, own = time.perf_counter() - started, time.process_time() - own
            found.append(Merging((number + 1) * count * shards.PHOTOS, seconds / count, own / count))
    return found


def listing(folder: RemoteFolder) -> tuple[float, float]:
    """Return the seconds of a page of a listing: of waiting for the server, and of a core for all that is listed."""
    own = time.process_time()
    names = len(scan(folder).examples)
    own = time.process_time() - own
    storage = access.of(folder)
    started, waited = time.perf_counter(), time.process_time()
    pages = sum(1 for _ in storage.pages(storage.folders()[0]))
    waited = time.perf_counter() - started - (time.process_time() - waited)
    return max(0.0, waited) / pages, own / names * PAGE


def cutting(extractor: FeatureExtractor, paths: Sequence[str], folder: Path) -> float:
    """Return the seconds of this process for a shard: what the store lacks is found, cut and named."""
    columns = VariantColumns(list(paths), [""] * len(paths))
    with Store(folder / "empty", dimension=extractor.runner.backbone.dimension) as store:
        own = time.process_time()
        _, todo = computing.missing(columns, extractor=extractor, store=store)
        count = 0
        for indices in shards.cut(columns.paths, todo, depth=1):
            some: list[Variant] = [columns[index] for index in indices]
            shards.shard_of(some, extractor, "store", lambda path: Stamp(1, 1, 1))
            count += 1
        return (time.process_time() - own) / count


def handing_out(cluster: Cluster, count: int) -> tuple[float, float]:
    """Return the seconds until a worker is open, and those for each of many tasks that are nothing but a value."""
    value = VariantColumns([f"class000/{number:07d}.jpg" for number in range(shards.PHOTOS)], [""] * shards.PHOTOS)
    begun = time.perf_counter()
    tasks = (Task(str(number), (value, [Stamp(1, number, 1)] * shards.PHOTOS)) for number in range(count))
    outcomes = cluster.run(_open_idle, {}, tasks)
    next(outcomes)
    opened, own = time.perf_counter(), time.process_time()
    done = sum(1 for _ in outcomes)
    return opened - begun, (time.process_time() - own) / done


def _open_idle(cores: int, shared: object) -> Callable[[Task, int], str]:
    return lambda task, attempt: "won"
