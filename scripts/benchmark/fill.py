"""Measures the bottleneck stage: against the original's method, and against decoding alone plus running alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scripts import rival
from scripts.benchmark.bench import LITE, Bench, Row, engine_of, photo_paths, seconds_of

from retrain.backbones.loading import Backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.data.decoding import decode
from retrain.data.variants import Variant


def fill(bench: Bench) -> list[Row]:
    """Measure the bottleneck stage against the rival, and against decoding alone plus running alone."""
    rows = []
    backbone = bench.backbone("mobilenet_0.25_128")
    engine = engine_of(backbone)
    for name in ("santa", "flowers_1100"):
        paths = photo_paths(bench.photos(name), 200 if bench.quick else None)
        ours, limit = _fill_and_limit(bench, FeatureExtractor(bench.photos(name), engine), paths, name)
        sample = paths[:: max(1, len(paths) // (100 if bench.quick else 300))]
        theirs = _rival_fill(bench, [bench.photos(name) / path for path in sample], backbone, name)
        rate = len(paths) / ours
        rows.append(Row("fill, over the rival", name, rate * theirs / len(sample), "x", 3, 4, f"{rate:.0f} images/s"))
        rows.append(Row("fill, share of the limit", name, limit / ours, "", 0.90, 0.97))
    others = (LITE, "keras:MobileNet")
    for name in others if bench.quick else (*others, "keras:InceptionV3"):
        paths = photo_paths(bench.photos("flowers_1100"), 40 if bench.quick else 200)
        extractor = FeatureExtractor(bench.photos("flowers_1100"), engine_of(bench.backbone(name)))
        ours, limit = _fill_and_limit(bench, extractor, paths, name.replace(":", "_"))
        rows.append(Row("fill, share of the limit", name, limit / ours, "", 0.90, 0.97))
    return rows


def _fill_and_limit(bench: Bench, extractor: FeatureExtractor, paths: Sequence[str], name: str) -> tuple[float, float]:
    """Return the seconds of the bottleneck stage, and of decoding alone plus running alone, best of three each."""
    engine, pixels = extractor.runner, []
    decoded = decoder(engine.backbone, extractor.image_dir)
    measured: list[tuple[float, float]] = []
    for number in range(1 if bench.quick else 3):
        decoding = seconds_of(lambda: pixels.extend(in_threads(lambda: decoded, paths, engine.threads)))
        running = seconds_of(lambda: run_all(pixels, engine))
        pixels.clear()
        measured.append((fill_seconds(bench, extractor, paths, f"{name}_{number}"), decoding + running))
    return min(ours for ours, _ in measured), min(limit for _, limit in measured)


def decoder(backbone: Backbone, image_dir: Path) -> Callable[[str], np.ndarray]:
    """Return what reads and decodes a photo to the pixels that a backbone takes."""
    height, width = backbone.input.size
    return lambda path: decode((image_dir / path).read_bytes(), height=height, width=width)


def fill_seconds(bench: Bench, extractor: FeatureExtractor, paths: Sequence[str], name: str) -> float:
    """Return the seconds of the bottleneck stage into a new store."""
    variants = [Variant(path) for path in paths]
    with Store(bench.folder / f"store_{name}", dimension=extractor.runner.backbone.dimension) as store:
        return seconds_of(lambda: computing.compute(variants, range(len(paths)), extractor=extractor, store=store))


def run_all(pixels: Sequence[np.ndarray], engine: BackboneRunner) -> None:
    """Run decoded images through an engine, one at a time on each of its threads."""
    list(in_threads(engine.runner, pixels, engine.threads))


def in_threads(open_worker: Callable[[], Callable[[Any], Any]], items: Sequence[Any], threads: int) -> Iterator[Any]:
    """Yield what the workers make of the items, each thread with a worker and every `threads`-th item of its own."""
    from concurrent.futures import ThreadPoolExecutor

    def share(start: int) -> list[Any]:
        work = open_worker()
        return [work(item) for item in items[start::threads]]

    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(share, range(threads)):
            yield from part


def _rival_fill(bench: Bench, images: Sequence[Path], backbone: Backbone, name: str) -> float:
    compute = rival.Bottlenecks(
        backbone.graph, source=backbone.input.node, target=backbone.target, size=backbone.input.height
    )
    compute(images[0])
    return seconds_of(lambda: rival.fill(images, compute, bench.folder / f"rival_{name}"))
