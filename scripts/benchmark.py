"""Measures retrain beside the original's method and beside the machine's limit, in one run: a table, benchmark.json.

`python -m scripts.benchmark --quick` takes about two minutes, the full run up to fifteen. Everything that it
measures is made in a temporary folder; the photos and archives are those of --data.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scripts import rival

from retrain import workers
from retrain.backbones import catalogue, families, measuring, processor, quantized
from retrain.backbones import engines as engine_table
from retrain.backbones.loading import Backbone, load_backbone
from retrain.backbones.runner import BackboneRunner, TensorFlowRunner
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.reading import Gather, compute_now
from retrain.bottlenecks.store import Entry, Stamp, Store
from retrain.data.dataset import scan
from retrain.data.decoding import decode
from retrain.data.variants import Variant, list_variants
from retrain.evaluation.tensorboard import Summaries
from retrain.formats import table as format_table
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan, keras_optimizer
from retrain.training.sampling import SamplingPlan

LITE = "efficientnet_lite0"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, on what, the figure, what it must and what it should reach."""

    what: str
    on: str
    value: float
    unit: str
    must: float
    aim: float
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Return whether the figure reaches its marks; a ratio over the rival or a share wants to be large."""
        large = self.must < self.aim
        reaches = self.value.__ge__ if large else self.value.__le__
        return "aim" if reaches(self.aim) else "must" if reaches(self.must) else "SHORT"


def main() -> None:
    """Measure what the arguments ask for, print the table and write benchmark.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sets, about two minutes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=[], help=f"of: {', '.join(MEASURES)}")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="default: %(default)s")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in MEASURES.items():
            if args.only and name not in args.only:
                continue
            bench = Bench(args.data.resolve(), Path(folder) / name, args.quick)
            bench.folder.mkdir()
            started = time.perf_counter()
            measured = measure(bench)
            for row in measured:
                print(f"{row.what}, {row.on}: {row.value:.3g} {row.unit} {row.detail}", file=sys.stderr)
            rows += measured
            print(f"[{name}: {time.perf_counter() - started:.0f} s]", file=sys.stderr, flush=True)
    machine = {
        "date": date.today().isoformat(),
        "processor": processor.name(),
        "cores": workers.cores(),
        "quick": args.quick,
    }
    args.output.write_text(json.dumps({**machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print(f"{machine['date']}, {machine['processor']}, {machine['cores']} cores{', quick' if args.quick else ''}\n")
    print("| what | on | measured | must | aim | reaches | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        figures = " | ".join(f"{value:.3g} {row.unit}" for value in (row.value, row.must, row.aim))
        print(f"| {row.what} | {row.on} | {figures} | {row.verdict} | {row.detail} |")


@dataclass(frozen=True)
class Bench:
    """Where the data is, where to work, and whether to be quick."""

    data: Path
    folder: Path
    quick: bool

    def source(self, name: str, **options: Any) -> BackboneSource:
        """Return where a backbone is from, its weights random where they are Keras'."""
        weights = catalogue.RANDOM if name.startswith("keras:") else None
        spec = replace(catalogue.find(name), **options)
        return families.locate(spec, WeightsRequest(self.data / "models", weights))

    def backbone(self, name: str, **options: Any) -> Backbone:
        """Return a backbone as a frozen graph."""
        source = self.source(name, **options)
        return load_backbone(source, self.folder / "backbone" / source.folder_name)

    def photos(self, name: str) -> Path:
        """Return an image folder of the test data."""
        return self.data / "datasets" / name

    def train_flowers(self, steps: int) -> None:
        """Run the command on photos of flowers."""
        _command(
            self, "retrain", "--image_dir", self.photos("flowers_1100"), "--architecture", "mobilenet_0.25_128",
            "--model_dir", self.data / "models", "--how_many_training_steps", steps,
        )  # fmt: skip


def engine_of(backbone: Backbone) -> BackboneRunner:
    """Return the engine of a backbone, its LiteRT model converted already."""
    engine = BackboneRunner(backbone, print)
    engine.run_one(np.zeros((*backbone.input.size, 3), np.uint8))
    return engine


def fill(bench: Bench) -> list[Row]:
    """Measure the bottleneck stage against the rival, and against decoding alone plus running alone."""
    rows = []
    backbone = bench.backbone("mobilenet_0.25_128")
    engine = engine_of(backbone)
    for name in ("santa", "flowers_1100"):
        paths = _paths(bench.photos(name), 200 if bench.quick else None)
        ours, limit = _fill_and_limit(bench, FeatureExtractor(bench.photos(name), engine), paths, name)
        sample = paths[:: max(1, len(paths) // (100 if bench.quick else 300))]
        theirs = _rival_fill(bench, [bench.photos(name) / path for path in sample], backbone, name)
        rate = len(paths) / ours
        rows.append(Row("fill, over the rival", name, rate * theirs / len(sample), "x", 3, 4, f"{rate:.0f} images/s"))
        rows.append(Row("fill, share of the limit", name, limit / ours, "", 0.90, 0.97))
    others = ("efficientnet_lite0", "keras:MobileNet")
    for name in others if bench.quick else (*others, "keras:InceptionV3"):
        paths = _paths(bench.photos("flowers_1100"), 40 if bench.quick else 200)
        extractor = FeatureExtractor(bench.photos("flowers_1100"), engine_of(bench.backbone(name)))
        ours, limit = _fill_and_limit(bench, extractor, paths, name.replace(":", "_"))
        rows.append(Row("fill, share of the limit", name, limit / ours, "", 0.90, 0.97))
    return rows


def engines(bench: Bench) -> list[Row]:
    """Measure LiteRT, one image a core, against the same frozen graph in TensorFlow in batches of 32."""
    rows = []
    cases = (
        ("mobilenet_0.25_128", 1.1),
        ("keras:MobileNet", 1.1),
        ("keras:MobileNetV2", 1.1),
        ("keras:InceptionV3", 0.95),
    )
    count = 64 if bench.quick else 256
    for name, must in cases[:2] if bench.quick else cases:
        backbone = bench.backbone(name)
        engine = engine_of(backbone)
        pixels = np.random.default_rng(0).integers(0, 256, (32, *backbone.input.size, 3), np.uint8)
        network = TensorFlowRunner(backbone)
        network(pixels)
        theirs = _best(lambda network=network, pixels=pixels: [network(pixels) for _ in range(count // 32)])
        ours = _best(lambda engine=engine, pixels=pixels: _run_all([*pixels] * (count // 32), engine))
        other = {} if bench.quick else _other_engines(backbone, pixels, count)
        fastest = min([ours, *other.values()])
        detail = f"{count / ours:.0f} images/s; share of the fastest {fastest / ours:.2f}"
        detail += "".join(f"; {engine} {count / seconds:.0f}" for engine, seconds in other.items())
        rows.append(Row("engine, over TensorFlow", name, theirs / ours, "x", must, must + 0.001, detail))
    return rows


def precisions(bench: Bench) -> list[Row]:
    """Measure the bottleneck stage in each engine and precision against LiteRT's in float32, in turns."""
    name, photos = LITE, bench.photos("flowers_1100")
    backbone, paths = bench.backbone(name), _paths(photos, 200 if bench.quick else None)
    extractors = _extractors(bench, name, photos)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in extractors}
    for number in range(2 if bench.quick else 4):
        for (engine, precision), extractor in extractors.items():
            store = f"{engine}_{precision}_{number}"
            seconds[engine, precision].append(_fill_seconds(bench, extractor, paths, store))
    rates = {key: len(paths) / min(measured) for key, measured in seconds.items()}
    baseline = rates[engine_table.LITERT, engine_table.FLOAT32]
    gains = processor.gains()
    marks = {engine_table.FLOAT32: (0.95, 1.0), **{each: (gain, gain * 1.25) for each, gain in gains.items()}}
    rows = []
    for precision, (must, aim) in marks.items():
        each = {engine: rate for (engine, other), rate in rates.items() if other == precision}
        detail = ", ".join(f"{engine_table.TITLES[engine]} {rate:.0f} images/s" for engine, rate in each.items())
        on = f"{name}, {precision}"
        rows.append(Row("fill, over LiteRT float32", on, max(each.values()) / baseline, "x", must, aim, detail))
    decoding = _seconds(lambda: list(_in_threads(lambda: _decoder(backbone, photos), paths, workers.cores())))
    share = decoding / min(min(measured) for measured in seconds.values())
    rows.append(Row("decoding, share of the fastest fill", name, share, "", 1.0, 0.3))
    return rows + _accuracy_of_int8(bench, extractors, photos)


def choice(bench: Bench) -> list[Row]:
    """Measure the engine that is chosen for a network against the fastest at hand."""
    rows = []
    for name in (LITE,) if bench.quick else (LITE, "keras:InceptionV3", "keras:MobileNetV2"):
        backbone = bench.backbone(name)
        photos = quantized.drawn_images(8, *backbone.input.size)
        names = [each for each in engine_table.TITLES if engine_table.is_installed(each)]
        runners = {each: BackboneRunner(backbone, print, engine=each) for each in names}
        asked = [each for each in engine_table.EngineRequest().names if each in names]
        chosen = measuring.measure({each: runners[each] for each in asked}, photos).choice
        turns = [measuring.measure(runners, photos).rates for _ in range(5)]
        rates = {each: max(turn[each] for turn in turns) for each in names}
        detail = f"{chosen}; " + ", ".join(f"{each} {rate:.0f} images/s" for each, rate in rates.items())
        share = rates[chosen] / max(rates.values())
        rows.append(Row("the chosen engine, share of the fastest", name, share, "", 0.95, 1.0, detail))
    return rows


def first_run(bench: Bench) -> list[Row]:
    """Measure the first command of all, which freezes the network and computes everything, and then a label."""
    photos = bench.photos("flowers_1100")
    arguments = ("--image_dir", photos, "--architecture", LITE, "--how_many_training_steps", 500)
    cold = _seconds(lambda: _command(bench, "retrain", *arguments))
    warm = _best(lambda: _command(bench, "retrain", *arguments), 1 if bench.quick else 3)
    graph, labels = bench.folder / "tf_files/retrained_graph.pb", bench.folder / "tf_files/retrained_labels.txt"
    photo = photos / _paths(photos, 1)[0]
    theirs = _best(lambda: _command(bench, "python", "-c", rival.LABEL_IMAGE, graph, photo, labels, 224))
    ours = _best(lambda: _command(bench, "label_image", photo))
    on = f"{LITE}, flowers_1100, 500 steps"
    return [
        Row("cold first run", on, cold, "s", 25, 15, f"the second {warm:.2f} s"),
        Row("label_image, over the rival", f"{LITE}, .tflite beside", ours / theirs, "x", 0.35, 0.3, f"{ours:.2f} s"),
    ]


def _extractors(bench: Bench, name: str, photos: Path) -> dict[tuple[str, str], FeatureExtractor]:
    """Return what computes bottlenecks in each engine and precision that this machine has, compiled."""
    backbone = bench.backbone(name)
    quantized.int8_model(backbone, bench.source(name), list, print)
    extractors = {}
    for precision in (engine_table.FLOAT32, *processor.gains()):
        for engine in engine_table.EngineRequest(precision=precision).names:
            if engine == engine_table.TENSORFLOW or not engine_table.is_installed(engine):
                continue
            runner = BackboneRunner(backbone, print, engine=engine, precision=precision)
            runner.runner()(np.zeros((*backbone.input.size, 3), np.uint8))
            extractors[engine, precision] = FeatureExtractor(photos, runner)
    return extractors


def _accuracy_of_int8(bench: Bench, extractors: dict[tuple[str, str], FeatureExtractor], photos: Path) -> list[Row]:
    """Measure what float32 files lose by a head trained on int8 features: five folds, the seeds 0 and 1."""
    examples = scan(photos).examples
    labels = np.array([example.class_id for example in examples], np.int64)
    exact, rounded = (
        compute_now([Variant(example.path) for example in examples], extractors[engine_table.LITERT, precision])
        for precision in (engine_table.FLOAT32, engine_table.INT8)
    )
    correct: dict[str, list[float]] = {"float32": [], "int8": []}
    for seed in (0, 1):
        folds = np.random.default_rng(seed).permutation(len(labels)) % 5
        for fold in range(5):
            testing, training = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            for precision, vectors in (("float32", exact), ("int8", rounded)):
                plan = TrainingPlan(500, batch_size=100, validation_batch_size=1, eval_step_interval=500, seed=seed)
                samples = sampling.sample_training(labels, training, testing, plan)
                data = TrainingData(lambda rows, v=vectors: v[rows], labels, training, int(labels.max()) + 1)
                head = head_training.train(data, samples, HeadRecipe(), plan).head
                found = head.probabilities(exact[testing]).argmax(axis=1)
                correct[precision].append(float(np.mean(found == labels[testing])))
    lost = 100 * (np.mean(correct["float32"]) - np.mean(correct["int8"]))
    detail = ", ".join(f"{name} {np.mean(each):.1%}" for name, each in correct.items())
    return [Row("accuracy that float32 files lose by int8 features", LITE, lost, "points", 0.5, 0.2, detail)]


def train(bench: Bench) -> list[Row]:
    """Measure 4000 steps with their summaries, the best of four, against the rival's, measured on fewer steps."""
    rows = []
    rng = np.random.default_rng(0)
    for dimension in (1001, 2048):
        vectors = rng.random((1000, dimension), np.float32)
        labels = np.sort(rng.integers(0, 5, 1000)).astype(np.int64)
        files = []
        for number, vector in enumerate(vectors):
            files.append(bench.folder / f"{dimension}_{number}.txt")
            files[-1].write_text(",".join(str(value) for value in vector))
        with Store(bench.folder / f"store_{dimension}", dimension=dimension) as store:
            entries = [_entry(number, vector) for number, vector in enumerate(vectors)]
            rows_of = np.array(store.put(bench.folder, entries))
            ours = _best(lambda s=store, r=rows_of, y=labels: _train(bench, s, r, y, steps=4000), 4)
        steps = 20 if bench.quick else 100
        training = partial(rival.train, files, labels.tolist(), summaries=bench.folder / "rival", held_out=100)
        few, some = (_seconds(partial(training, steps=count)) for count in (10, 10 + steps))
        theirs = few + (some - few) / steps * 3990  # what a training pays once is counted once
        detail = f"{ours:.2f} s; the rival's {theirs:.0f} s from {steps} of its steps"
        rows.append(Row("4000 steps, over the rival", f"{dimension}-d", theirs / ours, "x", 100, 200, detail))
    return rows


def heads(bench: Bench) -> list[Row]:
    """Measure another head's training, measured at every step, against Keras' `fit`, measured at every tenth."""
    steps = 2000
    rng = np.random.default_rng(0)
    vectors, labels = rng.random((1100, 1001), np.float32), np.arange(1100) % 5
    recipe = HeadRecipe(hidden_units=(256,), optimizer="adam", learning_rate=0.001)
    plan = TrainingPlan(steps, batch_size=100, validation_batch_size=100, eval_step_interval=10, seed=0)
    samples, data = _samples(lambda examples: vectors[examples], labels, plan)
    ours = _best(lambda: head_training.train(data, samples, recipe, plan))
    theirs = _best(lambda: _keras_fit(vectors, labels, samples, recipe), 2)
    on, detail = f"adam, 256 hidden, {steps} steps", f"{ours:.2f} s; Keras' {theirs:.2f} s"
    return [Row("other heads, ours over Keras' fit", on, theirs / ours, "x", 1.5, 2, detail)]


def commands(bench: Bench) -> list[Row]:
    """Measure whole commands in fresh processes."""
    again = 1 if bench.quick else 5
    rows, imported = _second_run(bench, again)
    bench.train_flowers(500)
    graph, labels = bench.folder / "tf_files/retrained_graph.pb", bench.folder / "tf_files/retrained_labels.txt"
    photo = bench.photos("flowers_1100") / _paths(bench.photos("flowers_1100"), 1)[0]
    theirs = _best(lambda: _command(bench, "python", "-c", rival.LABEL_IMAGE, graph, photo, labels, 128), again)
    lite = _best(lambda: _command(bench, "label_image", photo), again)
    format_table.path_of(graph, "tflite").unlink()
    frozen = _best(lambda: _command(bench, "label_image", photo), again)
    rows.append(Row("label_image, over import tensorflow", ".pb alone", frozen / imported, "x", 1.2, 0.6))
    rows.append(Row("label_image, over the rival", ".pb alone", frozen / theirs, "x", 0.9, 0.85, f"{frozen:.2f} s"))
    rows.append(Row("label_image, over the rival", ".tflite beside", lite / theirs, "x", 0.35, 0.3, f"{lite:.2f} s"))
    for name, word in (
        ("--help", "--help"),
        ("a wrong flag", "--learing_rate=1"),
        ("a missing folder", "--image_dir=x"),
    ):
        seconds = _best(lambda w=word: _command(bench, "retrain", w, check=False), again)
        rows.append(Row("answers", name, seconds, "s", 0.3, 0.15))
    return rows


def _second_run(bench: Bench, again: int) -> tuple[list[Row], float]:
    """Measure `retrain` with default flags on a filled store beside TensorFlow's import; return the seconds of that."""
    ours = ("retrain", "--image_dir", bench.photos("flowers_1100"), "--how_many_training_steps", 500)
    theirs = ("python", "-c", "import tensorflow")
    _command(bench, *ours)
    # In turns, so that both meet the machine's better and worse moments.
    pairs = [[_seconds(partial(_command, bench, *words)) for words in (ours, theirs)] for _ in range(max(3, again))]
    second, imported = (min(seconds) for seconds in zip(*pairs, strict=True))
    on, detail = "flowers_1100, 500 steps, default flags", f"{second:.2f} s; {shlex.join(theirs)}: {imported:.2f} s"
    return [Row("second run, over import tensorflow", on, second / imported, "x", 0.45, 0.35, detail)], imported


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
        _command(bench, "retrain", *arguments)
        warm[count] = _best(lambda a=arguments: _command(bench, "retrain", *a), 2)
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
            call = lambda r=rows_of[chosen], y=labels[chosen]: _train(bench, store, r, y, steps=4000)  # noqa: E731
            seconds[count] = min(_seconds(call) for _ in range(2))
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


def labelling(bench: Bench) -> list[Row]:
    """Measure `label_image` on many photos against the bottleneck stage, and how its memory grows."""
    few, many = (200, 1_000) if bench.quick else (1_000, 10_000)
    folder = _copies(bench.photos("flowers_1100"), bench.folder / "photos", many)
    paths = _paths(folder, None)
    bench.train_flowers(50)
    model = model_loading.load(bench.folder / "tf_files/retrained_graph.pb")
    extractor = FeatureExtractor(folder, engine_of(bench.backbone("mobilenet_0.25_128")))
    images = [folder / path for path in paths]
    # In turns, so that both meet the machine's better and worse moments.
    pairs = [
        (_fill_seconds(bench, extractor, paths, str(n)), _seconds(lambda: list(prediction.label(model, images))))
        for n in range(3)
    ]
    theirs, ours = (min(seconds) for seconds in zip(*pairs, strict=True))
    detail = f"{many / ours:.0f} images/s"
    rows = [Row("label_image, over the bottleneck stage", f"{many} photos", theirs / ours, "x", 0.9, 1.0, detail)]
    peaks = [_peak_of_labels(bench, images[:count]) for count in (few, many)]
    detail = f"{peaks[1] / 1e6:.0f} MB"
    rows.append(Row("label_image, memory", f"{many} photos over {few}", peaks[1] / peaks[0], "x", 1.2, 1.05, detail))
    return rows


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    measure.__name__: measure
    for measure in (
        fill, engines, precisions, choice, first_run, train, heads, commands, growth, million, labelling,
    )
}  # fmt: skip


def _paths(folder: Path, most: int | None) -> list[str]:
    paths = [example.path for example in scan(folder).examples if example.path.endswith(".jpg")]
    return paths[:: max(1, len(paths) // most)][:most] if most else paths


def _fill_and_limit(bench: Bench, extractor: FeatureExtractor, paths: Sequence[str], name: str) -> tuple[float, float]:
    """Return the seconds of the bottleneck stage, and of decoding alone plus running alone, best of three each."""
    engine, pixels = extractor.runner, []
    decoded = _decoder(engine.backbone, extractor.image_dir)
    measured: list[tuple[float, float]] = []
    for number in range(1 if bench.quick else 3):
        decoding = _seconds(lambda: pixels.extend(_in_threads(lambda: decoded, paths, engine.threads)))
        running = _seconds(lambda: _run_all(pixels, engine))
        pixels.clear()
        measured.append((_fill_seconds(bench, extractor, paths, f"{name}_{number}"), decoding + running))
    return min(ours for ours, _ in measured), min(limit for _, limit in measured)


def _decoder(backbone: Backbone, image_dir: Path) -> Callable[[str], np.ndarray]:
    """Return what reads and decodes a photo to the pixels that a backbone takes."""
    height, width = backbone.input.size
    return lambda path: decode((image_dir / path).read_bytes(), height=height, width=width)


def _fill_seconds(bench: Bench, extractor: FeatureExtractor, paths: Sequence[str], name: str) -> float:
    """Return the seconds of the bottleneck stage into a new store."""
    variants = [Variant(path) for path in paths]
    with Store(bench.folder / f"store_{name}", dimension=extractor.runner.backbone.dimension) as store:
        return _seconds(lambda: computing.compute(variants, range(len(paths)), extractor=extractor, store=store))


def _run_all(pixels: Sequence[np.ndarray], engine: BackboneRunner) -> None:
    list(_in_threads(engine.runner, pixels, engine.threads))


def _in_threads(open_worker: Callable[[], Callable[[Any], Any]], items: Sequence[Any], threads: int) -> Iterator[Any]:
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
    return _seconds(lambda: rival.fill(images, compute, bench.folder / f"rival_{name}"))


def _other_engines(backbone: Backbone, pixels: np.ndarray, count: int) -> dict[str, float]:
    """Return the seconds of OpenVINO and ONNX Runtime for `count` images, of those that are installed."""
    seconds = {}
    batch = backbone.input.scale(pixels)[:, None]
    try:
        import openvino
    except ImportError:
        return seconds
    compiled = openvino.Core().compile_model(
        openvino.convert_model(str(backbone.graph), input=[1, *backbone.input.size, 3]),
        "CPU",
        {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"},
    )

    def openvino_all() -> None:
        queue = openvino.AsyncInferQueue(compiled)
        for number in range(count):
            queue.start_async({0: batch[number % len(batch)]})
        queue.wait_all()

    openvino_all()
    seconds["OpenVINO"] = _best(openvino_all)
    try:
        import onnxruntime
        import tf2onnx
    except ImportError:
        return seconds
    from retrain.graphs import nodes, reading

    model, _ = tf2onnx.convert.from_graph_def(
        nodes.in_tensorflow(reading.read_graph(backbone.graph)),
        input_names=[f"{backbone.input.node}:0"],
        output_names=[f"{backbone.target}:0"],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> Any:
        return session.run(None, {f"{backbone.input.node}:0": image})

    items = [batch[number % len(batch)] for number in range(count)]
    seconds["ONNX Runtime"] = _best(lambda: list(_in_threads(lambda: run, items, workers.cores())))
    return seconds


def _train(bench: Bench, store: Store, rows_of: np.ndarray, labels: np.ndarray, *, steps: int) -> None:
    """Train on stored bottlenecks with the default batches and write the summaries, as the command does."""
    from retrain.evaluation.tensorboard import summarise

    plan = TrainingPlan(steps, batch_size=100, validation_batch_size=100, eval_step_interval=10, seed=0)
    samples, data = _samples(lambda examples: store.read(rows_of[examples]), labels, plan)
    with Summaries(bench.folder / "summaries", head_every=steps // 25) as summaries:
        head_training.train(data, samples, HeadRecipe(), plan, report=lambda result: summarise(summaries, result))


def _samples(gather: Gather, labels: np.ndarray, plan: TrainingPlan) -> tuple[SamplingPlan, TrainingData]:
    """Return what a training samples, and from what: every tenth example is for validation."""
    everything = np.arange(len(labels))
    validation, training = everything[::10], np.delete(everything, everything[::10])
    samples = sampling.sample_training(labels, training, validation, plan)
    return samples, TrainingData(gather, labels, training, int(labels.max()) + 1)


def _keras_fit(vectors: np.ndarray, labels: np.ndarray, samples: SamplingPlan, recipe: HeadRecipe) -> None:
    """Train a head by Keras' `fit` on the same batches, evaluated every ten steps, and keep the best weights."""
    import keras
    import tensorflow as tf

    standardised = tf.constant((vectors - vectors.mean(axis=0)) / vectors.std(axis=0))
    hidden = [keras.layers.Dense(units, "relu") for units in recipe.hidden_units]
    model = keras.Sequential([*hidden, keras.layers.Dense(int(labels.max()) + 1)])
    model.compile(
        keras_optimizer(recipe, len(samples.batches)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=10,
    )

    def batch(examples: Any) -> tuple[Any, Any]:
        return tf.gather(standardised, examples), tf.gather(labels, examples)

    model.fit(
        tf.data.Dataset.from_tensor_slices(samples.batches).map(batch),
        steps_per_epoch=10,
        epochs=len(samples.batches) // 10,
        validation_data=batch(samples.validation[0]),
        validation_batch_size=samples.validation.shape[1],
        callbacks=[keras.callbacks.EarlyStopping("val_accuracy", patience=10**6, restore_best_weights=True)],
        verbose=0,
    )


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
            entries.append(_entry(start + number, vectors[number], example.path, stamp))
        rows += store.put(image_dir, entries)
    return np.array(rows, np.int64), np.array([example.class_id for example in examples], np.int64)


def _entry(number: int, vector: np.ndarray, name: str | None = None, stamp: Stamp = Stamp(0, 0, 0)) -> Entry:  # noqa: B008
    import hashlib

    return Entry(name or str(number), stamp, hashlib.sha256(number.to_bytes(8, "big")).digest(), vector)


def _fill_tiny(bench: Bench, folder: Path, graph: Path, name: str) -> float:
    """Return the seconds from an empty store to a full one, the scan of the folder included."""
    engine = engine_of(bench.backbone(str(graph), target="features"))

    def stages() -> None:
        variants = list_variants(scan(folder), copies=0).rows
        extractor = FeatureExtractor(folder, engine)
        with Store(bench.folder / "stores" / name, dimension=64) as store:
            _, todo = computing.missing(variants, extractor=extractor, store=store)
            computing.compute(variants, todo, extractor=extractor, store=store)

    return _seconds(stages)


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
    done = _command(bench, "python", "-c", PEAK, image_dir, graph, store, bench.folder / "out")
    return int(done.stdout.split()[-1])


PEAK_OF_LABELS = """
import sys
from retrain.cli import label_image
label_image.main(["--csv", "-"])
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) * 1024)
"""


def _peak_of_labels(bench: Bench, images: Sequence[Path]) -> int:
    """Return the largest resident memory of `label_image` in bytes."""
    words = [sys.executable, "-c", PEAK_OF_LABELS]
    listed = "\n".join(map(str, images))
    done = subprocess.run(words, cwd=bench.folder, input=listed, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _copies(source: Path, folder: Path, count: int) -> Path:
    """Write `count` photos, of which no two have the same bytes, and return their folder."""
    paths = _paths(source, None)
    for number in range(count):
        path = folder / Path(paths[number % len(paths)]).parent / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / paths[number % len(paths)]).read_bytes() + number.to_bytes(4, "big"))
    return folder


def _command(bench: Bench, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name(str(words[0]))
    return subprocess.run(
        [str(script), *map(str, words[1:])], cwd=bench.folder, capture_output=True, text=True, check=check
    )


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _best(call: Callable[[], object], times: int = 3) -> float:
    return min(_seconds(call) for _ in range(times))


if __name__ == "__main__":
    main()
