"""Measures the training of a head on a store of millions of vectors beside the same training on ten thousand.

The file of the millions is sparse: its rows are zeros, and take no room on the disk. `--real` writes one of so many GB
besides, drops it from the memory, trains on it from the disk, and removes it. Each training has a process of its own,
whose private memory is watched. Zeros take as long to train on as other vectors do.
"""

import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain.bottlenecks import checksums
from retrain.bottlenecks.store import Store
from retrain.cli import console, flags
from retrain.errors import RetrainError
from retrain.terminal import Terminal
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

DIMENSION = 1280  # of the default network
VECTORS, CHECKSUMS = "vectors.f32", "checksums.u32"  # as a store calls its files
MOST_RATIO, MOST_BYTES = 1.5, 1.5e9  # what must hold
_BLOCK = 20_000  # rows that are written at once
_ROOM = 2e9  # bytes of the disk that are left to others


@dataclass(frozen=True)
class Job:
    """A training of `steps` default steps on a store of so many vectors, in so many classes of the same size."""

    folder: Path
    vectors: int
    classes: int
    steps: int

    @property
    def plan(self) -> TrainingPlan:
        """Return the default batches and evaluations."""
        return TrainingPlan(self.steps, batch_size=100, validation_batch_size=100, eval_step_interval=10, seed=0)

    def split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the labels, int64 [N], and the training and validation photos, int64, every tenth of them."""
        labels = np.repeat(np.arange(self.classes), -(-self.vectors // self.classes))[: self.vectors]
        is_held_out = np.arange(self.vectors) % 10 == 0
        return labels, np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


@dataclass(frozen=True)
class Trained:
    """A training: its seconds by the clock and of all processors, and private memory in bytes before it and at most.

    `weights` are those of the last layer, as bytes.
    """

    seconds: float
    processor: float
    before: int
    peak: int
    weights: bytes


def sparse_store(folder: Path, vectors: int) -> None:
    """Make the files of a store of so many vectors of zeros, which a sparse file holds without blocks on the disk."""
    folder.mkdir(parents=True)
    with (folder / VECTORS).open("wb") as file:
        file.truncate(4 * DIMENSION * vectors)
    np.full(vectors, checksums.of(np.zeros((1, DIMENSION), np.float32))[0]).tofile(folder / CHECKSUMS)


def real_store(folder: Path, vectors: int, terminal: Terminal) -> None:
    """Write a store of so many random vectors, and drop it from the memory.

    Raises:
        RetrainError: The disk has no room for it.
    """
    size, free = 4 * DIMENSION * vectors, shutil.disk_usage(folder.parent).free
    if size + _ROOM > free:
        raise RetrainError(f"{size / 1e9:.1f} GB do not fit {folder.parent}, where {free / 1e9:.1f} GB are free.")
    folder.mkdir()
    rng, advance = np.random.default_rng(0), terminal.progress("Writing", "vector")
    with (folder / VECTORS).open("wb") as file, (folder / CHECKSUMS).open("wb") as sums:
        for start in range(0, vectors, _BLOCK):
            block = rng.random((min(_BLOCK, vectors - start), DIMENSION), np.float32)
            file.write(block)
            sums.write(checksums.of(block))
            advance(start + len(block), vectors)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(job: Job) -> Trained:
    """Train a head on the store of a job, as `retrain` does by default."""
    labels, training, validation = job.split()
    with Store(job.folder, dimension=DIMENSION) as store, peak_memory() as watched:
        began, processor = time.perf_counter(), time.process_time()
        samples = sampling.sample_training(labels, training, validation, job.plan)
        data = TrainingData(store.read, labels, training, job.classes)
        head = head_training.train(data, samples, HeadRecipe(), job.plan).head
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
    return Trained(seconds, processor, watched[0], max(watched), head.last.weights.tobytes())


def in_own_process(job: Job) -> Trained:
    """Return what `train` returns, from a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, job).result()


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Have a thread watch the private memory of the process, and yield what it saw: at first, and at most so far."""
    seen, done = [_private_memory()] * 2, threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen[1] = max(seen[1], _private_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def _private_memory() -> int:
    """Return the bytes of this process that lie in no file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise RetrainError("the memory of a process is measured on Linux alone.") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and return whether all is as it must be."""
    parser = flags.Parser(prog="python -m scripts.scale_heads", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--vectors", type=int, default=10_000_000, help="of the large store (default: %(default)s)")
    add("--few", type=int, default=10_000, help="of the small one (default: %(default)s)")
    add("--classes", type=int, default=100, help="default: %(default)s")
    add("--steps", type=int, default=4000, help="default: %(default)s")
    add("--real", type=float, metavar="GB", help="write a file of this size, too, and train on it from the disk")
    add("--repeats", type=int, default=3, help="trainings of each, in turns; the best counts (default: %(default)s)")
    add("--folder", type=Path, help="where the files go for the time (default: the system's for such)")
    args = flags.parse(parser, arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    terminal = Terminal()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        jobs = [Job(Path(folder) / str(count), count, args.classes, args.steps) for count in (args.few, args.vectors)]
        for job in jobs:
            sparse_store(job.folder, job.vectors)
        found = [[in_own_process(job) for job in jobs] for _ in range(args.repeats)]
        few, many = (min(column, key=lambda each: each.seconds) for column in zip(*found, strict=True))
        print("| vectors | file | seconds | over the few | processor's seconds | peak private memory |")
        print("|---|---|---|---|---|---|")
        _print_row(args.few, "sparse", few, few)
        _print_row(args.vectors, "sparse", many, few)
        is_good = many.seconds <= MOST_RATIO * few.seconds
        if args.real:
            job = Job(Path(folder) / "real", int(args.real * 1e9 / 4 / DIMENSION), args.classes, args.steps)
            real_store(job.folder, job.vectors, terminal)
            for how in ("real, from the disk", "real, in memory"):
                trained = in_own_process(job)
                _print_row(job.vectors, how, trained, few)
                is_good = is_good and trained.peak < MOST_BYTES
    return console.DONE if is_good else console.FAILED


def _print_row(vectors: int, how: str, trained: Trained, few: Trained) -> None:
    ratio = f"{trained.seconds / few.seconds:.2f}"
    size, memory = f"{4 * DIMENSION * vectors / 1e9:.2f} GB", f"{trained.peak / 1e9:.2f} GB"
    cells = (f"{vectors:,}", f"{size}, {how}", f"{trained.seconds:.2f}", ratio, f"{trained.processor:.2f}", memory)
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    console.run("scale_heads", main)
