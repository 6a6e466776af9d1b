"""The lesson "Using pretrained networks" from end to end: Santa or not, by feature extraction and by fine-tuning."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrain.cli import console, flags
from retrain.config import RetrainConfig
from retrain.errors import ExportError, printable

if TYPE_CHECKING:
    from retrain.evaluation.report import Report

_FINE_TUNING_EPOCHS, _FINE_TUNING_BATCH = 10, 20


def methods(base: RetrainConfig, *, fine_tune_from: str, photos: int) -> dict[str, RetrainConfig]:
    """Return the lesson's three methods, for a number of training photos; the third tunes from the layer given."""
    extraction = replace(
        base, hidden_units=(256,), optimizer="rmsprop", learning_rate=1e-4, train_batch_size=10, how_many_epochs=20
    )
    augmented = replace(
        base,
        hidden_units=(132,),
        optimizer="rmsprop",
        learning_rate=2e-5,
        train_batch_size=20,
        how_many_epochs=10,
        random_rotation=40,
        random_shift=20,
        random_shear=0.2,
        random_zoom=20,
        flip_left_right=True,
    )
    tuned = replace(
        extraction,
        fine_tune_from=fine_tune_from,
        fine_tune_learning_rate=1e-4,
        fine_tune_batch_size=_FINE_TUNING_BATCH,
        fine_tune_steps=max(1, _FINE_TUNING_EPOCHS * photos // _FINE_TUNING_BATCH),
    )
    return {"feature_extraction": extraction, "feature_extraction_augmented": augmented, "fine_tuning": tuned}


def plot(report: "Report", title: str, path: Path) -> None:
    """Write a picture of accuracy and loss over the steps, training beside validation.

    Raises:
        ExportError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ExportError("the plots need matplotlib. Install it: pip install matplotlib") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    steps = [row.step for row in report.measured]
    for axes, name, field in ((left, "accuracy", "accuracy"), (right, "loss", "cross_entropy")):
        for label, prefix in (("training", "train"), ("validation", "validation")):
            axes.plot(steps, [getattr(row, f"{prefix}_{field}") for row in report.measured], label=label)
        axes.set(title=f"{title}: {name}", xlabel="step", ylabel=name)
        axes.legend()
    figure.tight_layout()
    try:
        figure.savefig(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another --output_dir.") from error
    pyplot.close(figure)


def main(arguments: Sequence[str]) -> int:
    """Train by each method, and print and plot how good it became."""
    parser = argparse.ArgumentParser(prog="lesson_santa", description="Runs the lesson on Santa from end to end.")
    parser.add_argument("--image_dir", type=Path, required=True, help="folder with train/, validation/ and test/")
    parser.add_argument(
        "--architecture", default="keras:VGG19", help="a network that can be fine-tuned (default: %(default)s)"
    )
    parser.add_argument("--weights", help="its weights file, instead of a download")
    parser.add_argument("--image_size", type=int, default=64, help="side of the images (default: %(default)s)")
    parser.add_argument("--fine_tune_from", default="block5_conv1", help="first layer to tune (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("tf_files/lesson_santa"), help="default: %(default)s")
    args = flags.parse(parser, arguments)
    console.quieten(verbose=False)
    from retrain.data.dataset import scan
    from retrain.data.split import Split
    from retrain.pipeline import retrain
    from retrain.terminal import Terminal

    photos = sum(scan(args.image_dir).counts(Split.TRAINING))
    base = RetrainConfig(
        image_dir=args.image_dir,
        architecture=args.architecture,
        weights=args.weights,
        image_size=args.image_size,
        validation_batch_size=-1,
        bottleneck_dir=args.output_dir / "bottlenecks",
    )
    print("method                        validation  test                     seconds", flush=True)
    for name, config in methods(base, fine_tune_from=args.fine_tune_from, photos=photos).items():
        folder, started = args.output_dir / name, time.perf_counter()
        results = {
            "output_graph": "retrained_graph.pb",
            "output_labels": "retrained_labels.txt",
            "checkpoint_path": "head",
        }
        paths = {setting: folder / file for setting, file in results.items()}
        config = replace(config, summaries_dir=args.output_dir / "training_summaries" / name, **paths)
        with Terminal(results=False) as terminal:
            report = retrain(config, terminal)
        seconds = time.perf_counter() - started
        plot(report, name.replace("_", " "), args.output_dir / f"{name}.png")
        best = max(row.validation_accuracy for row in report.measured)
        test = "none" if report.test_accuracy is None else f"{report.test_accuracy:.1%} (N={report.test_count})"
        print(f"{name:<28}  {best:>10.1%}  {test:<23}  {seconds:>7.1f}", flush=True)
    print(printable(f"Plots and graphs are in {args.output_dir}."))
    return console.DONE


if __name__ == "__main__":
    console.run("lesson_santa", main)
