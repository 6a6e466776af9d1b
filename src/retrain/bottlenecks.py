"""Fills the store for the examples that lack a vector: read, hash, decode, run, store, in parallel."""

import hashlib
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.engine import Engine
from retrain.errors import ImageError, StoreError
from retrain.formats import MAGIC_BYTES, has_image_magic
from retrain.image import decode
from retrain.store import DamagedVectorsError, Entry, Stamp, Store

BATCH = 32  # images that TensorFlow runs at once
_COMMIT_SECONDS = 0.05  # what a kill may cost, beside the images in flight
_WAITING = 64  # results that may wait for the writer
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


_Results = queue.Queue[_Outcome | None]


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

    with _workers(open_worker, todo, engine.threads) as results:
        if not engine.batched:
            yield from _lots(results, seconds=_COMMIT_SECONDS)
            return
        for lot in _lots(results, count=BATCH):
            yield _run_batch(lot, engine)


def _prepare(index: int, image_dir: Path, name: str, store: Store, engine: Engine, run: RunOne | None) -> _Outcome:
    """Return the outcome of one image, with its vector, or with pixels for a batch where `run` is None."""
    stamp = Stamp(0, 0, 0)
    try:
        with open(image_dir / name, "rb", buffering=0, opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            stamp = Stamp.of(status)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("not a regular file")
            head = file.read(MAGIC_BYTES)
            # A film among the photos is told from its first bytes and not read into memory.
            data = head + file.readall() if has_image_magic(head) else head
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


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe, whose opening would wait for a writer, comes back at once."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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


@contextmanager
def _workers(
    open_worker: Callable[[], Callable[[int], _Outcome]], todo: Sequence[int], threads: int
) -> Iterator[_Results]:
    """Start threads that work through `todo`, and give the queue of their outcomes; None follows the last one."""
    results: _Results = queue.Queue(_WAITING)
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
                results.put(worker(index))
            except BaseException as error:  # raised again in the thread that waits for it
                results.put(_Outcome(index, Entry("", Stamp(0, 0, 0)), failure=error))
        with lock:
            alive -= 1
            if alive == 0:
                results.put(None)

    for worker in workers:
        threading.Thread(target=work, args=(worker,), daemon=True).start()
    try:
        yield results
    finally:
        stop.set()


def _lots(results: _Results, *, seconds: float = 0, count: int = 0) -> Iterator[list[_Outcome]]:
    """Yield outcomes in lots: those of `seconds`, or `count` of them."""
    ended = False
    while not ended:
        lot: list[_Outcome] = []
        deadline = time.monotonic() + seconds
        while not ended and (len(lot) < count or not count):
            wait = None if count or not lot else max(0.0, deadline - time.monotonic())
            try:
                outcome = results.get(timeout=wait)
            except queue.Empty:
                break
            if outcome is None:
                ended = True
            elif outcome.failure is not None:
                raise outcome.failure
            else:
                lot.append(outcome)
        if lot:
            yield lot
