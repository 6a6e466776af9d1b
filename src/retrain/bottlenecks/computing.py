"""Fills the store with the variants that lack a bottleneck: reader, mapper and writer, in parallel.

Threads read photos and make pixels (reader) and run the backbone on them (mapper); where it runs in batches, the
calling thread runs it. The calling thread stores the vectors (writer).
"""

import contextlib
import functools
import hashlib
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retrain import workers
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.store import Entry, Stamp, Store, index_name
from retrain.data.decoding import decode
from retrain.data.distortions import Distortions
from retrain.data.image_files import MAGIC_BYTES, has_image_magic
from retrain.data.variants import Distorter, Variant
from retrain.errors import ImageError

BATCH = 32  # images that TensorFlow runs at once
NO_DISTORTIONS = Distorter(Distortions(), 0)
NO_ROW = -1
_COMMIT_SECONDS = 0.05  # of finished work that a kill may lose, beside the images in progress
_READ_AT_ONCE = 2**20
# Opening a named pipe would wait for a writer; on Windows, text mode would change bytes.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
RunOne = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [D]
Find = Callable[[bytes], int | None]  # key -> row


class StageSeconds(NamedTuple):
    """How long reading with decoding, running the backbone and storing took; those in threads added up."""

    reading: float = 0
    running: float = 0
    storing: float = 0


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
    seconds: StageSeconds = StageSeconds()


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file: its size and times, its bytes and their SHA-256; or the reason why it cannot be used."""

    stamp: Stamp
    data: bytes = b""
    content: bytes = b""
    reason: str | None = None


class VariantResult(NamedTuple):
    """The result of the variant at `position`: its entry for the store, and pixels that still have to be run.

    `legacy` says that its vector is from an older cache. The first variant of a photo or batch has the seconds that it
    took to read and to run all of them.
    """

    position: int
    entry: Entry
    pixels: np.ndarray | None = None
    legacy: bool = False
    reading: float = 0
    running: float = 0


@dataclass(frozen=True)
class FeatureExtractor:
    """Turns variants of the photos in a folder into bottlenecks.

    `legacy_vector` returns the vector float32 [D] that an older cache has for a photo's path, None for most.
    """

    image_dir: Path
    runner: BackboneRunner
    distorter: Distorter = NO_DISTORTIONS
    legacy_vector: Callable[[str], np.ndarray | None] = lambda path: None

    def index_name(self, variant: Variant) -> str:
        """Return what the index of the store calls a variant."""
        return index_name(variant.path, self.distorter.identity(variant.copy))

    def pixels(self, variants: Iterable[Variant]) -> list[np.ndarray]:
        """Return the backbone's input for variants, uint8 [H, W, 3] each; unreadable photos are left out."""
        images = []
        for path, group in itertools.groupby(variants, key=lambda variant: variant.path):
            photo = read_photo(self.image_dir, path)
            with contextlib.suppress(ImageError):
                decode_photo = _decoder(photo)
                images += [make_pixels(photo, variant.copy, self, decode_photo) for variant in group]
        return images


def missing(
    variants: Sequence[Variant], *, extractor: FeatureExtractor, store: Store
) -> tuple[ComputeResult, list[int]]:
    """Return what the store has of some variants, and the indices of those whose photos must be read.

    Args:
        variants: Those of one photo side by side.
        extractor: Would compute them.
        store: Where bottlenecks are.
    """
    rows = np.full(len(variants), NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    todo = []
    last_path, stamp = "", None  # one stat call serves all copies of a photo, which follow each other
    records = store.lookup(extractor.image_dir, map(extractor.index_name, variants))
    for index, ((path, _), record) in enumerate(zip(variants, records, strict=True)):
        if path != last_path and record is not None:
            last_path, stamp = path, _stamp(extractor.image_dir, path)
        if record is None or stamp != record.stamp:
            todo.append(index)
        elif record.row is None:
            rejected[path] = record.reason or ""
        else:
            rows[index] = record.row
    return ComputeResult(rows, rejected), todo


def compute(
    variants: Sequence[Variant],
    todo: Sequence[int],
    *,
    extractor: FeatureExtractor,
    store: Store,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ComputeResult:
    """Return the rows of some variants in the store, after computing those that it lacks.

    Args:
        variants: Those of one photo side by side.
        todo: Indices of the variants to compute, from `missing`.
        extractor: Computes them.
        store: Gets the vectors as soon as they are computed.
        advance: Called with the variants done and the variants in all.

    Raises:
        StoreError: The store cannot be written.
    """
    rows = np.full(len(variants), NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    reading = running = storing = 0.0
    computed = legacy = done = 0
    for results in compute_results(variants, todo, extractor, store.find):
        started = time.perf_counter()
        stored_rows = store.put(extractor.image_dir, [result.entry for result in results])
        storing += time.perf_counter() - started
        for result, row in zip(results, stored_rows, strict=True):
            if row is None:
                rejected[variants[result.position].path] = result.entry.reason or ""
            else:
                rows[result.position] = row
            legacy += result.legacy
            computed += result.entry.vector is not None and not result.legacy
            reading += result.reading
            running += result.running
        done += len(results)
        advance(done, len(todo))
    return ComputeResult(rows, rejected, computed, legacy, len(todo), StageSeconds(reading, running, storing))


def compute_results(
    variants: Sequence[Variant], todo: Sequence[int], extractor: FeatureExtractor, find: Find
) -> Iterator[list[VariantResult]]:
    """Yield results in the order in which they are done, in batches that are worth a transaction.

    Args:
        variants: Those of one photo side by side.
        todo: Indices of the variants to compute.
        extractor: Computes them.
        find: Returns the row of a key, None for a variant that must be computed.
    """
    if not todo:
        return
    runner = extractor.runner
    jobs = (list(group) for _, group in itertools.groupby(todo, key=lambda index: variants[index].path))

    def open_worker() -> Callable[[list[int]], list[VariantResult]]:
        run = None if runner.batched else runner.runner()
        return lambda job: _process_photo(job, [variants[index] for index in job], extractor, find, run=run)

    # Threads that run the backbone leave small vectors, of which many may wait for the writer; pixels may not.
    waiting = BATCH * 2 if runner.batched else len(todo)
    threads = min(runner.threads, len(todo))
    with workers.worker_pool(open_worker, jobs, threads=threads, waiting=waiting) as results:
        if not runner.batched:
            yield from workers.batches(results, seconds=_COMMIT_SECONDS)
            return
        for batch in workers.batches(results, count=BATCH):
            yield _run_batch(batch, runner)


def read_photo(image_dir: Path, path: str) -> Photo:
    """Return a photo's file, or why it cannot be read."""
    stamp = Stamp(0, 0, 0)
    try:
        file = os.open(f"{image_dir}/{path}", _OPEN_FLAGS)
        try:
            status = os.fstat(file)
            stamp = Stamp.of(status)
            data = _read(file, status)
        finally:
            os.close(file)
    except (OSError, ImageError) as error:
        return Photo(stamp, reason=_reason(error))
    return Photo(stamp, data, hashlib.sha256(data).digest())


def variant_key(content: bytes, distortion: str) -> bytes:
    """Return the store's key of a variant, from the SHA-256 of the photo's file and `Distorter.identity`."""
    return hashlib.sha256(content + distortion.encode()).digest() if distortion else content


def make_pixels(
    photo: Photo, copy: str, extractor: FeatureExtractor, decode_photo: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    """Return the backbone's input for one copy of a photo, uint8 [H, W, 3]; `decode_photo` decodes to a size.

    Raises:
        ImageError: The photo cannot be decoded.
    """
    height, width = extractor.runner.backbone.input.size
    canvas = decode_photo(*extractor.distorter.canvas_size(copy, height=height, width=width))
    return extractor.distorter.distort(canvas, copy, content=photo.content, height=height, width=width)


def _decoder(photo: Photo) -> Callable[[int, int], np.ndarray]:
    """Return what decodes a photo to (height, width), once for each size."""
    if photo.reason is not None:
        raise ImageError(photo.reason)
    return functools.cache(lambda height, width: decode(photo.data, height=height, width=width))


def _process_photo(
    indices: Sequence[int], variants: Sequence[Variant], extractor: FeatureExtractor, find: Find, *, run: RunOne | None
) -> list[VariantResult]:
    """Return the results of variants of one photo: with vectors, or with pixels for a batch where `run` is None."""
    started = time.perf_counter()
    photo = read_photo(extractor.image_dir, variants[0].path)
    results = []
    try:
        decode_photo = _decoder(photo)
        for index, variant in zip(indices, variants, strict=True):
            key = variant_key(photo.content, extractor.distorter.identity(variant.copy))
            entry = Entry(extractor.index_name(variant), photo.stamp, key)
            if find(key) is not None:
                results.append(VariantResult(index, entry))
            elif not variant.copy and (vector := extractor.legacy_vector(variant.path)) is not None:
                results.append(_with_vector(VariantResult(index, entry, legacy=True), vector))
            else:
                results.append(VariantResult(index, entry, make_pixels(photo, variant.copy, extractor, decode_photo)))
    except (OSError, ImageError) as error:
        entries = [Entry(extractor.index_name(variant), photo.stamp, reason=_reason(error)) for variant in variants]
        return [VariantResult(index, entry) for index, entry in zip(indices, entries, strict=True)]
    decoded = time.perf_counter()
    if run is not None:
        results = [r if r.pixels is None else _with_vector(r, run(r.pixels)) for r in results]
    first = results[0]._replace(reading=decoded - started, running=time.perf_counter() - decoded)
    return [first, *results[1:]]


def _run_batch(results: list[VariantResult], runner: BackboneRunner) -> list[VariantResult]:
    """Return results with the vectors of those that have pixels, which are run together."""
    pixels = [result.pixels for result in results if result.pixels is not None]
    if not pixels:
        return results
    started = time.perf_counter()
    vectors = iter(runner.run_batch(np.stack(pixels)))
    results = [result if result.pixels is None else _with_vector(result, next(vectors)) for result in results]
    return [results[0]._replace(running=time.perf_counter() - started), *results[1:]]


def _with_vector(result: VariantResult, vector: np.ndarray) -> VariantResult:
    entry = result.entry
    return result._replace(entry=Entry(entry.name, entry.stamp, entry.key, vector), pixels=None)


def _stamp(image_dir: Path, path: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(f"{image_dir}/{path}"))  # noqa: PTH116 (a Path for each of a million files is slow)
    except OSError:
        return None


def _reason(error: OSError | ImageError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _read(file: int, status: os.stat_result) -> bytes:
    """Return the content of an open file; of one that is no image, a film say, only its beginning."""
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    parts = [os.read(file, _READ_AT_ONCE)]
    while sum(map(len, parts)) < status.st_size and has_image_magic(parts[0][:MAGIC_BYTES]):
        more = os.read(file, _READ_AT_ONCE)
        if not more:  # cut short since
            break
        parts.append(more)
    return b"".join(parts)
