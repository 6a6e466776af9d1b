"""Fills the store for the pictures that lack a vector: read, hash, decode, distort, run, store, in parallel."""

import contextlib
import gc
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain import workers
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.store import Entry, Stamp, Store
from retrain.data import variants
from retrain.data.decoding import decode
from retrain.data.distortions import Distortions
from retrain.data.image_files import MAGIC_BYTES, has_image_magic
from retrain.data.variants import Distorter
from retrain.errors import ImageError

BATCH = 32  # images that TensorFlow runs at once
NO_DISTORTIONS = Distorter(Distortions(), 0)  # photos as they are
_COMMIT_SECONDS = 0.05  # what a kill may cost, beside the images in flight
_READ_AT_ONCE = 2**20
# Opening a named pipe would wait for a writer; on Windows, text mode would change bytes.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_ROW = -1
RunOne = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [D]
Find = Callable[[bytes], int | None]  # key -> row


@dataclass(frozen=True)
class ComputeResult:
    """What a pass over the pictures found.

    `rows` int64 [N] are rows of the store, -1 for a picture of a rejected photo; `rejected` maps the photo's path to
    the reason; `computed` counts the vectors made, `recalled` those that an older cache had, `read` what was not
    known and had its photo read.
    """

    rows: np.ndarray
    rejected: dict[str, str]
    computed: int = 0
    recalled: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One picture's way so far: its entry, and pixels that still have to be run."""

    index: int
    entry: Entry
    pixels: np.ndarray | None = None
    recalled: bool = False


@dataclass(frozen=True)
class FeatureExtractor:
    """What makes bottlenecks: photos below a folder, the backbone, who distorts, and what an older cache knows.

    `recall` returns the vector float32 [D] that another tool kept for a photo's path, None for most.
    """

    image_dir: Path
    engine: BackboneRunner
    copier: Distorter = NO_DISTORTIONS
    recall: Callable[[str], np.ndarray | None] = lambda path: None

    def pictures(self, names: Sequence[str]) -> list[np.ndarray]:
        """Return what the backbone is shown of some pictures, uint8 [H, W, 3] each, to look at; no unreadable ones."""
        outcomes = [o for name in names for o in _process_photo([0], [name], self, find=lambda key: None, run=None)]
        return [outcome.pixels for outcome in outcomes if outcome.pixels is not None]


def missing(names: Sequence[str], *, image_dir: Path, store: Store) -> tuple[ComputeResult, list[int]]:
    """Return what the store already knows of some pictures, and the indices of those whose photos must be read.

    Args:
        names: As in `views`, those of one photo side by side.
        image_dir: The image folder.
        store: Where bottlenecks are.
    """
    rows = np.full(len(names), _NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    todo = []
    last, stamp = "", None  # the copies of one photo follow each other: one look at its file serves them all
    for index, known in enumerate(store.lookup(image_dir, names)):
        path = variants.photo_of(names[index])
        if path != last and known is not None:
            last, stamp = path, _stamp(image_dir, path)
        if known is None or stamp != known.stamp:
            todo.append(index)
        elif known.row is None:
            rejected[path] = known.reason or ""
        else:
            rows[index] = known.row
    return ComputeResult(rows, rejected), todo


def compute(
    names: Sequence[str],
    todo: Sequence[int],
    *,
    source: FeatureExtractor,
    store: Store,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> ComputeResult:
    """Return where the bottlenecks of some pictures are, after computing those that the store lacks.

    Args:
        names: As in `views`, those of one photo side by side.
        todo: Indices of the pictures to make, from `missing`.
        source: What makes them.
        store: Gets what is computed, as it comes.
        advance: Called with the pictures done and the pictures in all.

    Raises:
        StoreError: The store cannot be written.
    """
    rows = np.full(len(names), _NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    computed = recalled = done = 0
    for outcomes in compute_results(names, todo, source, store.find):
        entries = [outcome.entry for outcome in outcomes]
        for outcome, row in zip(outcomes, store.put(source.image_dir, entries), strict=True):
            if row is None:
                rejected[variants.photo_of(names[outcome.index])] = outcome.entry.reason or ""
            else:
                rows[outcome.index] = row
            recalled += outcome.recalled
            computed += outcome.entry.vector is not None and not outcome.recalled
        done += len(outcomes)
        advance(done, len(todo))
    return ComputeResult(rows, rejected, computed, recalled, len(todo))


def _stamp(image_dir: Path, path: str) -> Stamp | None:
    try:
        return Stamp.of((image_dir / path).stat())
    except OSError:
        return None


def compute_results(
    names: Sequence[str], todo: Sequence[int], source: FeatureExtractor, find: Find
) -> Iterator[list[VariantResult]]:
    """Yield finished outcomes in the order in which they are done, in lots worth a transaction.

    Args:
        names: As in `views`, those of one photo side by side.
        todo: Indices of the pictures to make.
        source: What makes them.
        find: Tells which pictures need not be made, by their keys.
    """
    if not todo:
        return
    engine = source.engine
    jobs = (list(group) for _, group in itertools.groupby(todo, key=lambda index: variants.photo_of(names[index])))

    def open_worker() -> Callable[[list[int]], list[VariantResult]]:
        run = None if engine.batched else engine.runner()
        return lambda job: _process_photo(job, [names[index] for index in job], source, find, run)

    # Runners in threads make small vectors, which may pile up until the writer wakes; pixels for batches may not.
    waiting = BATCH * 2 if engine.batched else len(todo)
    threads = min(engine.threads, len(todo))
    with _uncollected(), workers.worker_pool(open_worker, jobs, threads=threads, waiting=waiting) as results:
        if not engine.batched:
            yield from workers.batches(results, seconds=_COMMIT_SECONDS)
            return
        for lot in workers.batches(results, count=BATCH):
            yield _run_batch(lot, engine)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Spare what exists now the garbage collector, which would walk a million examples again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _process_photo(
    indices: Sequence[int], names: Sequence[str], source: FeatureExtractor, find: Find, run: RunOne | None
) -> list[VariantResult]:
    """Return the outcomes of pictures of one photo, with their vectors, or with pixels for a batch if `run` is None."""
    engine, path = source.engine, variants.photo_of(names[0])
    stamp = Stamp(0, 0, 0)
    try:
        file = os.open(f"{source.image_dir}/{path}", _OPEN_FLAGS)
        try:
            status = os.fstat(file)
            stamp = Stamp.of(status)
            data = _read(file, status)
        finally:
            os.close(file)
        content = hashlib.sha256(data).digest()
        outcomes = []
        canvas: np.ndarray | None = None
        for index, name in zip(indices, names, strict=True):
            copy = variants.copy_of(name)
            key = hashlib.sha256(content + copy.encode()).digest() if copy else content
            if find(key) is not None:
                outcomes.append(VariantResult(index, Entry(name, stamp, key)))
                continue
            if not copy and (vector := source.recall(path)) is not None:
                outcomes.append(VariantResult(index, Entry(name, stamp, key, vector), recalled=True))
                continue
            rows, columns = engine.backbone.input.size
            height, width = source.copier.canvas(name, height=rows, width=columns)
            if canvas is None or canvas.shape[:2] != (height, width):
                canvas = decode(data, height=height, width=width)
            pixels = source.copier.picture(name, canvas, content=content, height=rows, width=columns)
            vector = None if run is None else run(pixels)
            outcomes.append(VariantResult(index, Entry(name, stamp, key, vector), pixels if run is None else None))
    except (OSError, ImageError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [VariantResult(i, Entry(name, stamp, reason=reason)) for i, name in zip(indices, names, strict=True)]
    return outcomes


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


def _run_batch(outcomes: list[VariantResult], engine: BackboneRunner) -> list[VariantResult]:
    waiting = [outcome for outcome in outcomes if outcome.pixels is not None]
    if not waiting:
        return outcomes
    vectors = engine.run_batch(np.stack([outcome.pixels for outcome in waiting if outcome.pixels is not None]))
    done = [
        replace(outcome, entry=replace(outcome.entry, vector=vector), pixels=None)
        for outcome, vector in zip(waiting, vectors, strict=True)
    ]
    return [outcome for outcome in outcomes if outcome.pixels is None] + done
