"""Measures how long `check_images` looks at very many photos, and in how much memory.

The photos are made up: bottlenecks of classes that overlap, in a store as `retrain` keeps it, with their properties and
the small pictures by which copies are told. Of each hundred, two are near-duplicates of others, one has the same
content as another, and two lie in a wrong class. A process of its own looks at them, whose private memory is watched.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scripts.scale_heads import DIMENSION, peak_memory

from retrain.bottlenecks.reading import BottleneckReader
from retrain.bottlenecks.store import KEY_BYTES, Entry, Store
from retrain.cli import console, flags
from retrain.data.dataset import Dataset, Example
from retrain.data.properties import RECORD, SIDE, derived
from retrain.data.split import DEFAULT_SPLIT
from retrain.data.variants import VariantColumns
from retrain.doctor import examining, pictures
from retrain.doctor.photos import Photos
from retrain.storage.stamps import Stamp
from retrain.terminal import Terminal

_BLOCK = 10_000  # photos that are made at once
_INNER = 64  # dimensions in which the classes lie
_EXACT, _NEAR, _FLIPPED = 0.01, 0.02, 0.02  # shares of photos
_BACK = 500  # photos before it, at most, of which one is a copy
_CAMERAS = np.array([b"", b"", b"One Model", b"Another Model"], RECORD["camera"])


@dataclass(frozen=True)
class Job:
    """So many photos in so many classes, whose store is in `folder`."""

    folder: Path
    photos: int
    classes: int


@dataclass(frozen=True)
class Looked:
    """What a look at photos took.

    `rows` are the names of checks, with the seconds of each by the clock and of all processors; `before` and `peak`
    are private memory in bytes, and `found` counts photos by the kinds of findings.
    """

    rows: list[tuple[str, float, float]]
    before: int
    peak: int
    found: dict[str, int]


@dataclass(frozen=True)
class _Block:
    """Some photos: class ids, vectors float32 [n, D], contents int64 [n], records, and pictures uint8 [n, 32, 32]."""

    labels: np.ndarray
    vectors: np.ndarray
    contents: np.ndarray
    records: np.ndarray
    pictures: np.ndarray


def fill(job: Job, advance: Callable[[int, int], None]) -> None:
    """Make the store of a job, its pictures, and a file of its labels and of the rows of its photos."""
    labels, rows, kept = [], [], pictures.kept_in(job.folder)
    with Store(job.folder, dimension=DIMENSION) as store:
        for first, block in _blocks(job):
            new = [
                Entry(f"{number}.jpg", Stamp(1, number, 1), _key(content), vector, properties=record.tobytes())
                for number, content, vector, record in zip(
                    range(first, first + len(block.labels)), block.contents.tolist(), block.vectors, block.records,
                    strict=True,
                )
            ]  # fmt: skip
            rows += store.put(Path("photos"), new)
            labels.append(block.labels)
            kept.put(
                {
                    pictures.key_of(entry.key[:KEY_BYTES]): picture.tobytes()
                    for entry, picture in zip(new, block.pictures, strict=True)
                }
            )
            advance(first + len(new), job.photos)
    kept.write()
    np.savez(job.folder / "photos.npz", labels=np.concatenate(labels), rows=np.array(rows, np.int64))


def _key(content: int) -> bytes:
    return content.to_bytes(KEY_BYTES, "big")


def _blocks(job: Job) -> Iterator[tuple[int, _Block]]:
    """Yield photos with the number of the first of them, the classes one after another."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(job.classes, 3, _INNER)).astype(np.float32)  # of three kinds of photos of each class
    centres += 1.5 * centres.mean(axis=1, keepdims=True)
    lift = rng.normal(size=(_INNER, DIMENSION)).astype(np.float32) / _INNER**0.5
    labels = np.arange(job.photos) * job.classes // job.photos
    for first in range(0, job.photos, _BLOCK):
        own = labels[first : first + _BLOCK]
        count = len(own)
        is_flipped = rng.random(count) < _FLIPPED
        shown = np.where(is_flipped, rng.integers(job.classes, size=count), own)
        inner = centres[shown, rng.integers(3, size=count)] + rng.normal(size=(count, _INNER)).astype(np.float32)
        vectors = inner @ lift
        vectors += 0.5 * rng.standard_normal((count, DIMENSION), np.float32)
        np.maximum(vectors, 0, out=vectors)
        small = _pictures(rng, count)
        contents = np.arange(first, first + count)
        kind = rng.random(count)
        other = np.maximum(0, np.arange(count) - rng.integers(1, _BACK, size=count))
        for number in np.flatnonzero(kind < _EXACT + _NEAR).tolist():  # in order: a copy may have copies
            vectors[number], small[number] = vectors[other[number]], small[other[number]]
            if kind[number] < _EXACT:
                contents[number] = contents[other[number]]
            else:
                vectors[number] *= 1 + 0.02 * rng.standard_normal(DIMENSION, np.float32)
        yield first, _Block(own, vectors, contents, _records(rng, count), small)


def _pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return grey pictures uint8 [n, 32, 32], whose frequencies are as strong as those of photos: 1 / f."""
    noise = np.fft.rfft2(rng.standard_normal((count, pictures.SIDE, pictures.SIDE), np.float32))
    noise /= np.hypot(np.fft.fftfreq(pictures.SIDE)[:, None], np.fft.rfftfreq(pictures.SIDE)) + 1 / pictures.SIDE
    drawn = np.fft.irfft2(noise)
    drawn *= 50 / drawn.std()
    return (128 + drawn).clip(0, 255).astype(np.uint8)


def _records(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return properties of photos, `RECORD` [n], as those of cameras."""
    records = np.zeros(count, RECORD)
    records["width"] = rng.choice([640, 1024, 2048], count)
    records["height"] = rng.choice([480, 768, 1536], count)
    records["bytes"] = rng.integers(50_000, 500_000, count)
    records["taken"] = rng.integers(-1, 3 * 10**7, count)
    records["format"], records["camera"] = b"JPEG", rng.choice(_CAMERAS, count)
    records["slope"] = rng.normal(10, 2, count).clip(3)
    records["detail"] = records["slope"] * rng.normal(1.2, 0.1, count).clip(0.7)
    records["small"] = rng.normal(120, 40, (count, SIDE, SIDE, 3)).clip(0, 255)
    return records


def look(job: Job) -> Looked:
    """Look at the photos of a job, as `check_images` does."""
    rows: list[tuple[str, float, float]] = []
    with Store(job.folder, dimension=DIMENSION) as store, peak_memory() as watched:
        photos = _photos(job, store)
        began = [time.perf_counter(), time.process_time()]

        def note(name: str) -> None:
            now = [time.perf_counter(), time.process_time()]
            rows.append((name, now[0] - began[0], now[1] - began[1]))
            began[:] = now

        for name in ("properties", "graph"):  # which several checks ask for
            getattr(photos, name)
            note(name)
        examination = examining.examine(
            photos, lambda done, total: note(examining.CHECKS[done - 1].__module__.split(".")[-1])
        )
    found: dict[str, int] = {}
    for finding in examination.findings:
        found[finding.kind] = found.get(finding.kind, 0) + len(finding.photos)
    return Looked(rows, watched[0], max(watched), found)


def _photos(job: Job, store: Store) -> Photos:
    """Return the photos of a store."""
    with np.load(job.folder / "photos.npz") as known:
        labels, rows = known["labels"], known["rows"]
    names = tuple(f"class {number:04d}" for number in range(job.classes))
    paths = [f"{names[label]}/{number}.jpg" for number, label in enumerate(labels.tolist())]
    examples = tuple(
        Example(path, label, DEFAULT_SPLIT.assign(path)) for path, label in zip(paths, labels.tolist(), strict=True)
    )
    nothing: Any = None  # all is stored: nothing is computed
    read = BottleneckReader(VariantColumns(paths, [""] * len(paths)), rows, extractor=nothing, store=store)
    keys = read.key_of_each(np.arange(len(labels)))

    def describe(numbers: np.ndarray) -> np.ndarray:
        return derived(store.properties(rows[numbers]))

    dataset = Dataset(Path("photos"), names, examples)
    return Photos(dataset, read, keys, labels, 0, folder=job.folder, describe=describe)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table for each number of classes."""
    parser = flags.Parser(prog="python -m scripts.doctor.scale", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", type=int, default=100_000, help="default: %(default)s")
    add("--classes", type=int, nargs="+", default=[10, 100], help="one run for each (default: 10 100)")
    add("--folder", type=Path, help="where the store goes for the time (default: the system's for such)")
    args = flags.parse(parser, arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    terminal = Terminal()
    for classes in args.classes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            job = Job(Path(folder), args.photos, classes)
            fill(job, terminal.progress("Making", "photo"))
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                _print(job, pool.submit(look, job).result())
    return console.DONE


def _print(job: Job, looked: Looked) -> None:
    print(f"\n| {job.photos:,} photos, {job.classes} classes | seconds | processors' seconds |\n|---|---|---|")
    total = ("total", *(sum(row[place] for row in looked.rows) for place in (1, 2)))
    for name, seconds, processor in [*looked.rows, total]:
        print(f"| {name} | {seconds:.1f} | {processor:.1f} |")
    found = ", ".join(f"{kind} {count:,}" for kind, count in looked.found.items())
    print(
        f"\nPrivate memory: {looked.before / 1e9:.2f} GB before, {looked.peak / 1e9:.2f} GB at most. Photos: {found}."
    )


if __name__ == "__main__":
    console.run("scale", main)
