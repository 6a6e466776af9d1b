"""Measures what runs a backbone: each engine and precision, and the one that is chosen."""

from pathlib import Path
from typing import Any

import numpy as np
from scripts.benchmark.bench import LITE, Bench, Row, best_seconds, engine_of, photo_paths, seconds_of
from scripts.benchmark.fill import decoder, fill_seconds, in_threads, run_all

from retrain import workers
from retrain.backbones import engines as engine_table
from retrain.backbones import measuring, processor, quantized
from retrain.backbones.loading import Backbone
from retrain.backbones.runner import BackboneRunner, TensorFlowRunner
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.reading import compute_now
from retrain.data.dataset import scan
from retrain.data.variants import Variant
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan


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
        theirs = best_seconds(lambda network=network, pixels=pixels: [network(pixels) for _ in range(count // 32)])
        ours = best_seconds(lambda engine=engine, pixels=pixels: run_all([*pixels] * (count // 32), engine))
        other = {} if bench.quick else _other_engines(backbone, pixels, count)
        fastest = min([ours, *other.values()])
        detail = f"{count / ours:.0f} images/s; share of the fastest {fastest / ours:.2f}"
        detail += "".join(f"; {engine} {count / seconds:.0f}" for engine, seconds in other.items())
        rows.append(Row("engine, over TensorFlow", name, theirs / ours, "x", must, must + 0.001, detail))
    return rows


def precisions(bench: Bench) -> list[Row]:
    """Measure the bottleneck stage in each engine and precision against LiteRT's in float32, in turns."""
    name, photos = LITE, bench.photos("flowers_1100")
    backbone, paths = bench.backbone(name), photo_paths(photos, 200 if bench.quick else None)
    extractors = _extractors(bench, name, photos)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in extractors}
    for number in range(2 if bench.quick else 4):
        for (engine, precision), extractor in extractors.items():
            store = f"{engine}_{precision}_{number}"
            seconds[engine, precision].append(fill_seconds(bench, extractor, paths, store))
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
    decoding = seconds_of(lambda: list(in_threads(lambda: decoder(backbone, photos), paths, workers.cores())))
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
    seconds["OpenVINO"] = best_seconds(openvino_all)
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
    seconds["ONNX Runtime"] = best_seconds(lambda: list(in_threads(lambda: run, items, workers.cores())))
    return seconds
