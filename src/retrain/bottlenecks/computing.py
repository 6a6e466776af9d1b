"""Fills the store with the variants that lack a bottleneck: reader, mapper and writer, in parallel.

Threads read photos and make pixels (reader) and run the backbone on them (mapper); where it runs in batches, the
calling thread runs it. The calling thread stores the vectors (writer).
"""

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np

from retrain import workers
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.photos import (
    NO_STAMP,
    SECOND_DECODING,
    UNREADABLE,
    Photo,
    key_of,
    read_ahead,
    read_photo,
    reason_of,
    will_happen_again,
)
from retrain.bottlenecks.pixels import PixelMaker
from retrain.bottlenecks.store import Entry, Store, index_name
from retrain.data import decoding
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter, Variant
from retrain.errors import ImageError
from retrain.storage import access
from retrain.storage.folders import Folder
from retrain.storage.stamps import Stamp

BATCH = 32  # images that TensorFlow runs at once
NO_DISTORTIONS = Distorter(Distortions(), 0)
NO_ROW = -1
_COMMIT_SECONDS = 0.05  # of finished work that a kill may lose, beside the images in progress
_HEAD_BYTES = 2**16
Find = Callable[[bytes], int | None]  # key -> row
Advance = Callable[[int, int], None]  # variants done, variants in all
PhotoJob = tuple[list[int], Callable[[], Photo]]  # the indices of variants of one photo, and what returns it


class Stopwatch:
    """Adds up the seconds of each stage, "reading", "decoding", "running" and "storing", over all threads."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("reading", "decoding", "running", "storing"), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add what the block takes to a stage, unless it fails."""
        started = time.perf_counter()
        yield
        with self._lock:
            self.seconds[stage] += time.perf_counter() - started


@dataclass(frozen=True)
class ComputeResult:
    """The outcome of a pass over the variants.

    `rows` int64 [V] are rows of the store, `NO_ROW` for the variants of a rejected photo; `rejected` maps its path to
    the reason. `computed` counts vectors computed, `legacy` those read from an older cache, and `read` the variants
    whose photos had to be read.
    """

    rows: np.ndarray
    rejected: dict[str, str]
    computed: int = 0
    legacy: int = 0
    read: int = 0


class Elsewhere(Protocol):
    """Computes on other machines what `compute` computes here."""

    def __call__(
        self,
        variants: Sequence[Variant],
        todo: Sequence[int],
        *,
        extractor: "FeatureExtractor",
        store: Store,
        advance: Advance,
    ) -> ComputeResult:
        """Return what `compute` returns, computed and stored."""

    def merge_left_overs(self, folder: Path, dimension: int) -> int:
        """Store in a folder what machines computed for runs that ended early, and return how many vectors that were."""


class VariantResult(NamedTuple):
    """The result of the variant at `position`: its entry for the store, and pixels that still have to be run.

    `legacy` says that its vector is from an older cache.
    """

    position: int
    entry: Entry
    pixels: np.ndarray | None = None
    legacy: bool = False

    def with_vector(self, vector: np.ndarray) -> Self:
        """Return the result with its vector, float32 [D]."""
        return self._replace(entry=replace(self.entry, vector=vector), pixels=None)


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns variants of the photos in a folder into bottlenecks.

    `legacy_vector` returns the vector float32 [D] that an older cache has for a photo's path, None for most. `renewed`
    gets the photos that the store had as they were decoded earlier; threads add to it. `elsewhere` computes many of
    them on a cluster, None for this machine.
    """

    image_dir: Folder
    runner: BackboneRunner
    distorter: Distorter = NO_DISTORTIONS
    legacy_vector: Callable[[str], np.ndarray | None] = lambda path: None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    renewed: set[str] = field(default_factory=set)
    elsewhere: Elsewhere | None = None

    def index_name(self, variant: Variant) -> str:
        """Return what the index of the store calls a variant."""
        mark = SECOND_DECODING if decoding.may_be_decoded_otherwise(variant.path) else ""
        return index_name(variant.path, self.distorter.identity(variant.copy) + mark)

    def keys(self, variants: Iterable[Variant]) -> list[bytes]:
        """Return the keys of variants in a store; those of photos that cannot be read are left out."""
        photos = ((read_photo(self.image_dir, path), copy) for path, copy in variants)
        return [key_of(photo.content, self.distorter.identity(copy)) for photo, copy in photos if photo.reason is None]

    def pixels(self, variants: Iterable[Variant]) -> list[np.ndarray]:
        """Return the backbone's input for variants, uint8 [H, W, 3] each; unreadable photos are left out."""
        images = []
        copies = ((list(group), path) for path, group in itertools.groupby(variants, key=lambda variant: variant.path))
        for group, read in read_ahead(self.image_dir, copies):
            with contextlib.suppress(ImageError):
                make_pixels = self.pixel_maker(read())
                images += [make_pixels(variant.copy) for variant in group]
        return images

    def pixel_maker(self, photo: Photo) -> PixelMaker:
        """Return what makes the backbone's input for copies of a photo.

        Raises:
            ImageError: The photo cannot be read.
        """
        return PixelMaker(photo, self.runner.backbone.input, self.distorter)


def missing(
    variants: Sequence[Variant], *, extractor: FeatureExtractor, store: Store
) -> tuple[ComputeResult, list[int]]:
    """Return what the store has of variants, and the indices of those whose photos must be read.

    The variants of one photo must be side by side.
    """
    rows = np.full(len(variants), NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    todo, unseen = [], []
    last_path, stamp = "", None  # one stat call serves all copies of a photo, which follow each other
    records = store.lookup(extractor.image_dir, map(extractor.index_name, variants))
    for index, ((path, _), record) in enumerate(zip(variants, records, strict=True)):
        if path != last_path and record is not None:
            last_path, stamp = path, access.stamp_of(extractor.image_dir, path)
        if record is None and decoding.may_be_decoded_otherwise(path):
            unseen.append(index)
        # What another decoder could not read, this one may.
        elif record is None or stamp != record.stamp or (record.row is None and record.decoder != decoding.decoder()):
            todo.append(index)
        elif record.row is None:
            rejected[path] = record.reason or ""
        else:
            rows[index] = record.row
    known = _adopt_earlier([variants[index] for index in unseen], extractor, store)
    for index, row in zip(unseen, known, strict=True):
        if row is None:
            todo.append(index)
        else:
            rows[index] = row
    return ComputeResult(rows, rejected), sorted(todo)


def _adopt_earlier(variants: Sequence[Variant], extractor: FeatureExtractor, store: Store) -> list[int | None]:
    """Return the rows that version 0.1 stored for variants of photos whose pixels are the same today, None for others.

    Their records get today's names.
    """
    is_unchanged = functools.lru_cache(1)(functools.partial(_is_unchanged, extractor.image_dir))
    names = [index_name(variant.path, extractor.distorter.identity(variant.copy)) for variant in variants]
    rows: list[int | None] = []
    for variant, record in zip(variants, store.lookup(extractor.image_dir, names), strict=True):
        unchanged = record is not None and record.row is not None and is_unchanged(variant.path, record.stamp)
        rows.append(record.row if record and unchanged else None)
    renamed = [(names[i], extractor.index_name(variants[i])) for i, row in enumerate(rows) if row is not None]
    if renamed:
        store.rename(extractor.image_dir, renamed)
    return rows


def _is_unchanged(image_dir: Folder, path: str, stamp: Stamp) -> bool:
    """Return whether a file is the one with a stamp, and certainly no photo that version 0.1 decoded otherwise."""
    if access.stamp_of(image_dir, path) != stamp:
        return False
    try:
        head = access.of(image_dir).head(path, _HEAD_BYTES)
    except OSError:
        return False
    return not decoding.is_decoded_otherwise(head) and (b"IDAT" in head or b"PNG" not in head[:4])


def compute(
    variants: Sequence[Variant],
    todo: Sequence[int],
    *,
    extractor: FeatureExtractor,
    store: Store,
    advance: Advance = lambda done, total: None,
) -> ComputeResult:
    """Return the rows of the variants at the indices `todo`, from `missing`, after computing and storing them.

    The variants of one photo must be side by side. `advance` is called with the variants done and those in all.

    Raises:
        StoreError: The store cannot be written.
        ClusterError: The extractor computes elsewhere, and not all could be computed.
    """
    work = compute_here if extractor.elsewhere is None else extractor.elsewhere
    return work(variants, todo, extractor=extractor, store=store, advance=advance)


def compute_here(
    variants: Sequence[Variant],
    todo: Sequence[int],
    *,
    extractor: FeatureExtractor,
    store: Store,
    advance: Advance = lambda done, total: None,
) -> ComputeResult:
    """Return what `compute` returns, computed on this machine."""
    rows = np.full(len(variants), NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    computed = legacy = done = 0
    forgotten = []  # by another run, which found their rows damaged after this one had found them
    for results in compute_results(variants, todo, extractor, store.find):
        with extractor.stopwatch.measure("storing"):
            stored_rows = store.put(extractor.image_dir, [result.entry for result in results])
        for result, row in zip(results, stored_rows, strict=True):
            if row is not None:
                rows[result.position] = row
            elif result.entry.reason is not None:
                rejected[variants[result.position].path] = result.entry.reason
            else:
                forgotten.append(result.position)
            legacy += result.legacy
            computed += result.entry.vector is not None and not result.legacy
        done += len(results)
        advance(done, len(todo))
    if forgotten:
        again = compute_here(variants, sorted(forgotten), extractor=extractor, store=store)
        rows, rejected = np.maximum(rows, again.rows), rejected | again.rejected
        computed, legacy = computed + again.computed, legacy + again.legacy
    return ComputeResult(rows, rejected, computed, legacy, len(todo))


def compute_results(
    variants: Sequence[Variant], todo: Sequence[int], extractor: FeatureExtractor, find: Find
) -> Iterator[list[VariantResult]]:
    """Yield the results of the variants at the indices `todo` as they are done, in batches worth a transaction.

    The variants of one photo must be side by side. A variant whose key `find` knows is not computed.
    """
    if not todo:
        return
    runner, watch = extractor.runner, extractor.stopwatch
    copies = ((list(group), path) for path, group in itertools.groupby(todo, key=lambda index: variants[index].path))
    photos = read_ahead(extractor.image_dir, copies, lambda: watch.measure("reading"))
    jobs = iter(lambda: list(itertools.islice(photos, 1 if runner.batched else runner.at_once)), [])

    def open_worker() -> Callable[[list[PhotoJob]], list[VariantResult]]:
        run = None if runner.batched else runner.runner_of_several()

        def work(job: list[PhotoJob]) -> list[VariantResult]:
            results: list[VariantResult] = []
            for indices, read in job:
                with watch.measure("reading"):
                    photo = read()
                with watch.measure("decoding"):
                    results += _decoded(photo, indices, [variants[index] for index in indices], extractor, find)
            return _run(results, run, watch) if run else results

        return work

    # Threads that run the backbone leave small vectors, of which many may wait for the writer; pixels may not.
    waiting = BATCH * 2 if runner.batched else len(todo)
    threads = min(runner.threads, len(todo))
    with workers.worker_pool(open_worker, jobs, threads=threads, waiting=waiting) as results:
        if not runner.batched:
            yield from workers.batches(results, seconds=_COMMIT_SECONDS)
            return
        for batch in workers.batches(results, count=BATCH):
            yield _run(batch, lambda pixels: runner.run_batch(np.stack(pixels)), watch)


def _decoded(
    photo: Photo, indices: Sequence[int], variants: Sequence[Variant], extractor: FeatureExtractor, find: Find
) -> list[VariantResult]:
    """Return the results of variants of one photo, with pixels for those that must be run."""
    results = []
    try:
        make_pixels = extractor.pixel_maker(photo)
        for index, variant in zip(indices, variants, strict=True):
            distortion = extractor.distorter.identity(variant.copy)
            key = key_of(photo.content, distortion)
            entry = Entry(extractor.index_name(variant), photo.stamp, key)
            if find(key) is not None:
                results.append(VariantResult(index, entry))
            elif not variant.copy and (vector := extractor.legacy_vector(variant.path)) is not None:
                results.append(VariantResult(index, entry, legacy=True).with_vector(vector))
            else:
                pixels = make_pixels(variant.copy)
                known = None if variant.copy else make_pixels.described()[1]
                results.append(VariantResult(index, replace(entry, properties=known), pixels))
                if photo.earlier is not None and find(key_of(photo.earlier, distortion)) is not None:
                    extractor.renewed.add(variant.path)
    except UNREADABLE as error:
        stamp = photo.stamp if will_happen_again(error) else NO_STAMP
        names = map(extractor.index_name, variants)
        entries = [Entry(name, stamp, reason=reason_of(error), decoder=decoding.decoder()) for name in names]
        return list(map(VariantResult, indices, entries))
    return results


def _run(
    results: list[VariantResult], run: Callable[[list[np.ndarray]], Iterable[np.ndarray]], stopwatch: Stopwatch
) -> list[VariantResult]:
    """Return results with the vectors of those that have pixels, for which `run` is called once."""
    if not any(result.pixels is not None for result in results):
        return results
    with stopwatch.measure("running"):
        vectors = iter(run([result.pixels for result in results if result.pixels is not None]))
        return [r if r.pixels is None else r.with_vector(next(vectors)) for r in results]
