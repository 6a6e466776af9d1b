"""Fills the store for the examples that lack a vector: read, hash, decode, run, store, in parallel."""

import contextlib
import hashlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.backbone import Backbone
from retrain.engine import Engine
from retrain.errors import ImageError, StoreError
from retrain.formats import MAGIC_BYTES, has_image_magic
from retrain.image import decode
from retrain.store import DamagedVectorsError, Entry, Stamp, Store

BATCH = 32  # images that TensorFlow runs at once
_COMMIT_SECONDS = 0.05  # what a kill may cost, beside the images in flight
_READ_AT_ONCE = 2**20
# Opening a named pipe would wait for a writer; on Windows, text mode would change bytes.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_ROW = -1

RunOne = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> float32 [D]


@dataclass(frozen=True)
class Computed:
    """What a pass over the images found.

    `rows` int64 [N] are rows of the store, -1 for a rejected image; `rejected` maps its path to the reason;
    `computed` counts the vectors made, `read` the files opened.
    """

    rows: np.ndarray
    rejected: dict[str, str]
    computed: int
    read: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One file's way so far: its entry, and pixels that still have to be run."""

    index: int
    entry: Entry
    pixels: np.ndarray | None = None
    failure: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Results:
    """What the workers have done: outcomes, None after the last one; room for more; whether they are through."""

    outcomes: queue.SimpleQueue[_Outcome | None]
    room: threading.Semaphore
    ended: threading.Event


def open_engine(backbone: Backbone, warn: Callable[[str], None]) -> Engine:
    """Return what runs a backbone, its LiteRT model kept beside its graph; `warn` is told why LiteRT is not used."""
    return Engine(
        backbone.graph,
        source=backbone.source,
        target=backbone.target,
        height=backbone.height,
        width=backbone.width,
        mean=backbone.mean,
        std=backbone.std,
        model=backbone.graph.with_name("backbone.tflite"),
        warn=warn,
    )


def missing(paths: Sequence[str], *, image_dir: Path, store: Store) -> tuple[Computed, list[int]]:
    """Return what the store already knows of some images, and the indices of those that must be read.

    Args:
        paths: Relative to `image_dir`.
        image_dir: The image folder.
        store: Where bottlenecks are.
    """
    rows = np.full(len(paths), _NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    todo = []
    for index, known in enumerate(store.lookup(image_dir, paths)):
        if known is None or not _unchanged(image_dir, paths[index], known.stamp):
            todo.append(index)
        elif known.row is None:
            rejected[paths[index]] = known.reason or ""
        else:
            rows[index] = known.row
    return Computed(rows, rejected, computed=0, read=0), todo


def compute(
    paths: Sequence[str],
    todo: Sequence[int],
    *,
    image_dir: Path,
    store: Store,
    engine: Engine,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Computed:
    """Return where the bottlenecks of some images are, after computing those that the store lacks.

    Args:
        paths: Relative to `image_dir`.
        todo: Indices of the images to read, from `missing`.
        image_dir: The image folder.
        store: Gets what is computed, as it comes.
        engine: What runs the backbone.
        advance: Called with the images done and the images in all.

    Raises:
        StoreError: The store cannot be written.
    """
    rows = np.full(len(paths), _NO_ROW, np.int64)
    rejected: dict[str, str] = {}
    computed = done = 0
    if not todo:
        return Computed(rows, rejected, computed=0, read=0)
    for outcomes in _outcomes(paths, todo, image_dir, store, engine):
        entries = [outcome.entry for outcome in outcomes]
        for outcome, row in zip(outcomes, store.put(image_dir, entries), strict=True):
            if row is None:
                rejected[paths[outcome.index]] = outcome.entry.reason or ""
            else:
                rows[outcome.index] = row
            computed += outcome.entry.vector is not None
        done += len(outcomes)
        advance(done, len(todo))
    return Computed(rows, rejected, computed=computed, read=len(todo))


class Reader:
    """Reads bottlenecks of examples from a store, and computes damaged ones again."""

    def __init__(
        self, paths: Sequence[str], rows: np.ndarray, *, image_dir: Path, store: Store, engine: Engine
    ) -> None:
        """Read the examples whose paths and rows (int64 [N]) these are; `engine` mends damage."""
        self._paths, self._rows = paths, rows.copy()
        self._image_dir, self._store, self._engine = image_dir, store, engine

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [n, D] of examples, int64 [n] indices.

        Raises:
            StoreError: A damaged one could not be computed again.
        """
        try:
            return self._store.read(self._rows[examples])
        except DamagedVectorsError as damage:
            self._repair(damage.rows)
        return self._store.read(self._rows[examples])

    def _repair(self, rows: np.ndarray) -> None:
        self._store.forget(rows)
        todo = np.flatnonzero(np.isin(self._rows, rows)).tolist()
        again = compute(self._paths, todo, image_dir=self._image_dir, store=self._store, engine=self._engine)
        if again.rejected:
            path, reason = next(iter(again.rejected.items()))
            raise StoreError(f"the bottleneck of {path} was damaged and its image is gone: {reason}. Run again.")
        self._rows[todo] = again.rows[todo]


def _unchanged(image_dir: Path, path: str, stamp: Stamp) -> bool:
    try:
        return Stamp.of((image_dir / path).stat()) == stamp
    except OSError:
        return False


def _outcomes(
    paths: Sequence[str], todo: Sequence[int], image_dir: Path, store: Store, engine: Engine
) -> Iterator[list[_Outcome]]:
    """Yield finished outcomes in the order in which they are done, in lots worth a transaction."""

    def open_worker() -> Callable[[int], _Outcome]:
        run = None if engine.batched else engine.runner()
        return lambda index: _prepare(index, image_dir, paths[index], store, engine, run)

    # Runners in threads make small vectors, which may pile up until the writer wakes; pixels for batches may not.
    waiting = BATCH * 2 if engine.batched else len(todo)
    with _workers(open_worker, todo, threads=engine.threads, waiting=waiting) as results:
        if not engine.batched:
            yield from _lots(results, seconds=_COMMIT_SECONDS)
            return
        for lot in _lots(results, count=BATCH):
            yield _run_batch(lot, engine)


def _prepare(index: int, image_dir: Path, name: str, store: Store, engine: Engine, run: RunOne | None) -> _Outcome:
    """Return the outcome of one image, with its vector, or with pixels for a batch where `run` is None."""
    stamp = Stamp(0, 0, 0)
    try:
        file = os.open(f"{image_dir}/{name}", _OPEN_FLAGS)
        try:
            status = os.fstat(file)
            stamp = Stamp.of(status)
            data = _read(file, status)
        finally:
            os.close(file)
        key = hashlib.sha256(data).digest()
        if store.find(key) is not None:
            return _Outcome(index, Entry(name, stamp, key))
        pixels = decode(data, height=engine.height, width=engine.width)
    except OSError as error:
        return _Outcome(index, Entry(name, stamp, reason=error.strerror or str(error)))
    except ImageError as error:
        return _Outcome(index, Entry(name, stamp, reason=str(error)))
    if run is None:
        return _Outcome(index, Entry(name, stamp, key), pixels)
    return _Outcome(index, Entry(name, stamp, key, run(pixels)))


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


def _run_batch(outcomes: list[_Outcome], engine: Engine) -> list[_Outcome]:
    waiting = [outcome for outcome in outcomes if outcome.pixels is not None]
    if not waiting:
        return outcomes
    vectors = engine.run_batch(np.stack([outcome.pixels for outcome in waiting if outcome.pixels is not None]))
    done = [
        replace(outcome, entry=replace(outcome.entry, vector=vector), pixels=None)
        for outcome, vector in zip(waiting, vectors, strict=True)
    ]
    return [outcome for outcome in outcomes if outcome.pixels is None] + done


@contextlib.contextmanager
def _workers(
    open_worker: Callable[[], Callable[[int], _Outcome]], todo: Sequence[int], *, threads: int, waiting: int
) -> Iterator[_Results]:
    """Start threads that work through `todo`, and give their results; at most `waiting` of them wait to be taken."""
    results = _Results(queue.SimpleQueue(), threading.Semaphore(waiting), threading.Event())
    indices, lock, stop = iter(todo), threading.Lock(), threading.Event()
    workers = [open_worker() for _ in range(min(threads, len(todo)))]
    alive = len(workers)

    def work(worker: Callable[[int], _Outcome]) -> None:
        nonlocal alive
        while not stop.is_set():
            with lock:
                index = next(indices, None)
            if index is None:
                break
            try:
                outcome = worker(index)
            except BaseException as error:  # raised again in the thread that waits for it
                outcome = _Outcome(index, Entry("", Stamp(0, 0, 0)), failure=error)
            results.room.acquire()
            results.outcomes.put(outcome)
        with lock:
            alive -= 1
            if alive == 0:
                results.outcomes.put(None)
                results.ended.set()

    for worker in workers:
        threading.Thread(target=work, args=(worker,), daemon=True).start()
    try:
        yield results
    finally:
        stop.set()
        for _ in workers:
            results.room.release()


def _lots(results: _Results, *, seconds: float = 0, count: int = 0) -> Iterator[list[_Outcome]]:
    """Yield outcomes in lots: those of `seconds`, or `count` of them.

    Waiting for time and not for each outcome leaves the interpreter's lock to the workers.
    """
    lot: list[_Outcome] = []
    over = False
    while not over:
        if seconds:
            results.ended.wait(seconds)
        with contextlib.suppress(queue.Empty):
            while not over and (not count or len(lot) < count):
                outcome = results.outcomes.get(block=bool(count))
                if outcome is None:
                    over = True
                elif outcome.failure is not None:
                    raise outcome.failure
                else:
                    lot.append(outcome)
                    results.room.release()
        if lot:
            yield lot
            lot = []
