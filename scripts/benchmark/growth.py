"""Measures how times, memory and the store grow with the number of images, up to a million."""

import os
from functools import partial
from pathlib import Path

import numpy as np
from scripts.benchmark.bench import Bench, Row, best_seconds, command, engine_of, seconds_of
from scripts.benchmark.training import entry, train_stored

from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Stamp, Store
from retrain.data.dataset import scan
from retrain.data.variants import list_variants


def growth(bench: Bench) -> list[Row]:
    """Measure how filling and a warm run grow with the number of images."""
    small, large, huge = (300, 3_000, 10_000) if bench.quick else (1_000, 10_000, 100_000)
    graph = _mean_colour_graph(bench.folder / "mean_colour.pb", dimension=64)
    folders = {count: _small_images(bench.folder / f"images_{count}", count) for count in (small, large)}
    times: dict[int, list[float]] = {small: [], large: []}
    for again in range(4 if bench.quick else 10):  # in turns, so that both meet the machine's better and worse moments
        for count, folder in folders.items():
            for number in range(4 if count == small else 1):
                times[count].append(_fill_tiny(bench, folder, graph, f"{count}_{again}_{number}"))
    seconds = {count: float(np.median(measured)) for count, measured in times.items()}
    grown = seconds[large] / seconds[small]
    warm: dict[int, float] = {}
    for count in (small, huge):
        folder = _small_images(bench.folder / f"images_{count}", count)
        arguments = [
            *("--image_dir", folder, "--architecture", graph, "--bottleneck_tensor", "features"),
            *("--how_many_training_steps", "20", "--bottleneck_dir", bench.folder / "warm"),
        ]
        command(bench, "retrain", *arguments)
        warm[count] = best_seconds(lambda a=arguments: command(bench, "retrain", *a), 2)
    return [
        Row("time to fill, 10 times the images", f"{small} and {large}", grown, "x", 10.5, 10.0),
        Row("a warm run beyond a small folder's", f"{huge} and {small} images", warm[huge] - warm[small], "s", 5, 2),
    ]


def million(bench: Bench) -> list[Row]:
    """Measure training on a hundred times the bottlenecks, the memory of a whole run on a million, and the store."""
    few, many, dimension = (1_000, 100_000, 1024) if bench.quick else (10_000, 1_000_000, 1024)
    graph = _mean_colour_graph(bench.folder / "features.pb", dimension)
    image_dir = _linked_images(bench.folder / "images", many)
    backbone = bench.backbone(str(graph), target="features")
    seconds = {}
    with Store(backbone.graph.parent, dimension=dimension) as store:
        rows_of, labels = _fill_by_hand(store, image_dir, many)
        for count in (few, many):
            chosen = np.linspace(0, many - 1, count).astype(np.int64)
            call = partial(train_stored, bench, store, rows_of[chosen], labels[chosen], steps=4000)
            seconds[count] = min(seconds_of(call) for _ in range(2))
        size = sum(
            path.stat().st_size for path in store.folder.iterdir() if path.name[0] in "vci" or "sqlite" in path.name
        )
    grown, detail = seconds[many] / seconds[few], f"{seconds[few]:.2f} s and {seconds[many]:.2f} s"
    peak, raw = _peak_of_run(bench, image_dir, graph), 4 * dimension * many
    return [
        Row("training, 100 times the bottlenecks", f"{few} and {many}", grown, "x", 1.5, 1.1, detail),
        Row("peak private memory of a run", f"{many} bottlenecks of {dimension}", peak / 1e9, "GB", 2.0, 1.2),
        Row("store over its raw vectors", f"{many} of {dimension}", size / raw, "x", 1.15, 1.05),
    ]


def _mean_colour_graph(path: Path, dimension: int) -> Path:
    """Write a frozen graph whose bottleneck mixes the mean colour into `dimension` features."""
    import tensorflow as tf

    mix = np.random.default_rng(0).random((3, dimension), np.float32)
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 16, 16, 3], name="Placeholder")
        tf.matmul(tf.reduce_mean(image, [1, 2]), tf.constant(mix), name="features")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def _small_images(folder: Path, count: int) -> Path:
    """Write `count` different 16 x 16 BMP files in two classes."""
    from io import BytesIO

    from PIL import Image

    if folder.exists():
        return folder
    buffer = BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "BMP")
    header = buffer.getvalue()[:-768]
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        (folder / "ab"[number % 2] / f"{number:06d}.bmp").write_bytes(header + rng.bytes(768))
    return folder


def _linked_images(folder: Path, count: int) -> Path:
    """Make `count` names in ten classes for a few small files; the store is filled by hand and never reads them."""
    sources = list(_small_images(folder.with_name("sources"), 40).rglob("*.bmp"))
    for number in range(10):
        (folder / f"class_{number}").mkdir(parents=True)
    for number in range(count):
        os.link(sources[number % len(sources)], folder / f"class_{number % 10}" / f"{number:07d}.bmp")
    return folder


def _fill_by_hand(store: Store, image_dir: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Store random vectors as the bottlenecks of all images and return their rows and labels, int64 [count]."""
    rng = np.random.default_rng(0)
    examples = scan(image_dir).examples
    stamps: dict[int, Stamp] = {}
    rows: list[int | None] = []
    lot = 10_000
    for start in range(0, count, lot):
        vectors = rng.random((lot, store.dimension), np.float32)
        entries = []
        for number, example in enumerate(examples[start : start + lot]):
            status = (image_dir / example.path).stat()
            stamp = stamps.setdefault(status.st_ino, Stamp.of(status))
            entries.append(entry(start + number, vectors[number], example.path, stamp))
        rows += store.put(image_dir, entries)
    return np.array(rows, np.int64), np.array([example.class_id for example in examples], np.int64)


def _fill_tiny(bench: Bench, folder: Path, graph: Path, name: str) -> float:
    """Return the seconds from an empty store to a full one, the scan of the folder included."""
    engine = engine_of(bench.backbone(str(graph), target="features"))

    def stages() -> None:
        variants = list_variants(scan(folder), copies=0).rows
        extractor = FeatureExtractor(folder, engine)
        with Store(bench.folder / "stores" / name, dimension=64) as store:
            _, todo = computing.missing(variants, extractor=extractor, store=store)
            computing.compute(variants, todo, extractor=extractor, store=store)

    return seconds_of(stages)


PEAK = """
import sys, threading
from pathlib import Path
from retrain.pipeline import RetrainConfig, retrain
peak = 0
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.01):
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                peak = max(peak, int(line.split()[1]) * 1024)
watcher = threading.Thread(target=watch); watcher.start()
image_dir, graph, store, out = map(Path, sys.argv[1:])
report = retrain(RetrainConfig(image_dir=image_dir, architecture=str(graph), bottleneck_tensor="features",
    bottleneck_dir=store, output_graph=out / "g.pb", output_labels=out / "l.txt", summaries_dir=out / "s"))
done.set(); watcher.join()
assert report.test_count > 0
print(peak)
"""


def _peak_of_run(bench: Bench, image_dir: Path, graph: Path) -> int:
    """Return the peak of RssAnon in bytes over a whole run, the test set included."""
    store = bench.folder / "backbone"
    done = command(bench, "python", "-c", PEAK, image_dir, graph, store, bench.folder / "out")
    return int(done.stdout.split()[-1])
