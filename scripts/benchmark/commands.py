"""Measures whole commands in fresh processes: the first run, the second, labels of one photo and of many."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scripts import rival
from scripts.benchmark.bench import LITE, Bench, Row, best_seconds, command, engine_of, photo_paths, seconds_of
from scripts.benchmark.fill import fill_seconds

from retrain.bottlenecks.computing import FeatureExtractor
from retrain.formats import table as format_table
from retrain.inference import loading as model_loading
from retrain.inference import prediction


def first_run(bench: Bench) -> list[Row]:
    """Measure the first command of all, which freezes the network and computes everything, and then a label."""
    photos = bench.photos("flowers_1100")
    arguments = ("--image_dir", photos, "--architecture", LITE, "--how_many_training_steps", 500)
    cold = seconds_of(lambda: command(bench, "retrain", *arguments))
    warm = best_seconds(lambda: command(bench, "retrain", *arguments), 1 if bench.quick else 3)
    _, photo, theirs = _label_by_the_rival(bench, side=224, times=3)
    ours = best_seconds(lambda: command(bench, "label_image", photo))
    on = f"{LITE}, flowers_1100, 500 steps"
    return [
        Row("cold first run", on, cold, "s", 25, 15, f"the second {warm:.2f} s"),
        Row("label_image, over the rival", f"{LITE}, .tflite beside", ours / theirs, "x", 0.35, 0.3, f"{ours:.2f} s"),
    ]


def commands(bench: Bench) -> list[Row]:
    """Measure whole commands in fresh processes."""
    again = 1 if bench.quick else 5
    rows, imported = _second_run(bench, again)
    bench.train_flowers(500)
    graph, photo, theirs = _label_by_the_rival(bench, side=128, times=again)
    lite = best_seconds(lambda: command(bench, "label_image", photo), again)
    format_table.path_of(graph, "tflite").unlink()
    frozen = best_seconds(lambda: command(bench, "label_image", photo), again)
    rows.append(Row("label_image, over import tensorflow", ".pb alone", frozen / imported, "x", 1.2, 0.6))
    rows.append(Row("label_image, over the rival", ".pb alone", frozen / theirs, "x", 0.9, 0.85, f"{frozen:.2f} s"))
    rows.append(Row("label_image, over the rival", ".tflite beside", lite / theirs, "x", 0.35, 0.3, f"{lite:.2f} s"))
    for name, word in (
        ("--help", "--help"),
        ("a wrong flag", "--learing_rate=1"),
        ("a missing folder", "--image_dir=x"),
    ):
        seconds = best_seconds(lambda w=word: command(bench, "retrain", w, check=False), again)
        rows.append(Row("answers", name, seconds, "s", 0.3, 0.15))
    return rows


def _label_by_the_rival(bench: Bench, *, side: int, times: int) -> tuple[Path, Path, float]:
    """Return the graph of the last run, a photo, and the seconds in which the rival labels that with it."""
    graph, labels = bench.folder / "tf_files/retrained_graph.pb", bench.folder / "tf_files/retrained_labels.txt"
    photos = bench.photos("flowers_1100")
    photo = photos / photo_paths(photos, 1)[0]
    words = ("python", "-c", rival.LABEL_IMAGE, graph, photo, labels, side)
    return graph, photo, best_seconds(lambda: command(bench, *words), times)


def _second_run(bench: Bench, again: int) -> tuple[list[Row], float]:
    """Measure `retrain` with default flags on a filled store beside TensorFlow's import; return the seconds of that."""
    ours = ("retrain", "--image_dir", bench.photos("flowers_1100"), "--how_many_training_steps", 500)
    theirs = ("python", "-c", "import tensorflow")
    command(bench, *ours)
    # In turns, so that both meet the machine's better and worse moments.
    pairs = [[seconds_of(partial(command, bench, *words)) for words in (ours, theirs)] for _ in range(max(3, again))]
    second, imported = (min(seconds) for seconds in zip(*pairs, strict=True))
    on, detail = "flowers_1100, 500 steps, default flags", f"{second:.2f} s; {shlex.join(theirs)}: {imported:.2f} s"
    return [Row("second run, over import tensorflow", on, second / imported, "x", 0.45, 0.35, detail)], imported


def labelling(bench: Bench) -> list[Row]:
    """Measure `label_image` on many photos against the bottleneck stage, and how its memory grows."""
    few, many = (200, 1_000) if bench.quick else (1_000, 10_000)
    folder = copies(bench.photos("flowers_1100"), bench.folder / "photos", many)
    paths = photo_paths(folder, None)
    bench.train_flowers(50)
    model = model_loading.load(bench.folder / "tf_files/retrained_graph.pb")
    extractor = FeatureExtractor(folder, engine_of(bench.backbone("mobilenet_0.25_128")))
    images = [folder / path for path in paths]
    # In turns, so that both meet the machine's better and worse moments.
    pairs = [
        (fill_seconds(bench, extractor, paths, str(n)), seconds_of(lambda: list(prediction.label(model, images))))
        for n in range(3)
    ]
    theirs, ours = (min(seconds) for seconds in zip(*pairs, strict=True))
    detail = f"{many / ours:.0f} images/s"
    rows = [Row("label_image, over the bottleneck stage", f"{many} photos", theirs / ours, "x", 0.9, 1.0, detail)]
    peaks = [_peak_of_labels(bench, images[:count]) for count in (few, many)]
    detail = f"{peaks[1] / 1e6:.0f} MB"
    rows.append(Row("label_image, memory", f"{many} photos over {few}", peaks[1] / peaks[0], "x", 1.2, 1.05, detail))
    return rows


PEAK_OF_LABELS = """
import sys
from retrain.cli import label_image
label_image.main(["--csv", "-"])
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) * 1024)
"""


def _peak_of_labels(bench: Bench, images: Sequence[Path]) -> int:
    """Return the largest resident memory of `label_image` in bytes."""
    done = command(bench, "python", "-c", PEAK_OF_LABELS, listed="\n".join(map(str, images)))
    return int(done.stdout.split()[-1])


def copies(source: Path, folder: Path, count: int) -> Path:
    """Write `count` photos, of which no two have the same bytes, and return their folder."""
    paths = photo_paths(source, None)
    for number in range(count):
        path = folder / Path(paths[number % len(paths)]).parent / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / paths[number % len(paths)]).read_bytes() + number.to_bytes(4, "big"))
    return folder
