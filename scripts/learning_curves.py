"""Counts how often the intervals of learning curves hold: half of the photos say what all of them give.

For each set and seed, half of the photos of each class are held back, and the others say which accuracy twice as many
would give. That is compared with what heads on all photos reach, out of fold, in all and of each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scripts.linear_probe import SETS, LabelledVectors, bottlenecks

from retrain.backbones import catalogue
from retrain.cli import console, flags
from retrain.config import RetrainConfig
from retrain.data.dataset import Dataset, Example
from retrain.data.split import Split
from retrain.doctor import curves
from retrain.doctor.photos import Photos

HALVES = 10


@dataclass(frozen=True)
class Result:
    """How many intervals held: in all, and of single classes; `width` and `bias` of the former, as accuracies."""

    held: int
    halves: int
    classes_held: int
    classes: int
    width: float
    bias: float


def main(arguments: Sequence[str]) -> int:
    """Print a row of a table for each set."""
    parser = flags.Parser(prog="python -m scripts.learning_curves", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    add("--architecture", default=catalogue.DEFAULT, metavar="NAME", help="default: the default network")
    add("--halves", type=int, default=HALVES, metavar="N", help="of each set (default: %(default)s)")
    add("--bottleneck_dir", type=Path, default=RetrainConfig.bottleneck_dir, help="default: %(default)s")
    add("--model_dir", type=Path, default=RetrainConfig.model_dir, help="default: %(default)s")
    args = flags.parse(parser, arguments)
    console.quieten()
    print("| bottlenecks | held | of classes | width | middle, less what came |\n|---|---|---|---|---|")
    for name in SETS:
        data = bottlenecks(args.data / "datasets" / name, args.architecture, args.bottleneck_dir, args.model_dir)
        result = compare(data, halves=args.halves)
        held, classes = f"{result.held} of {result.halves}", f"{result.classes_held} of {result.classes}"
        figures = f"{100 * result.width:.1f} | {100 * result.bias:+.1f}"
        print(f"| {name}, {args.architecture} | {held} | {classes} | {figures} |", flush=True)
    return console.DONE


def compare(data: LabelledVectors, *, halves: int) -> Result:
    """Return how often half of the photos say what all of them give, for several halves."""
    photos = photos_of(data)
    full = curves.measure(photos)
    right, labels = full.right[-1], data.labels[full.scored]
    true = [float(right[labels == class_id].mean()) for class_id in range(int(labels.max()) + 1)]
    accuracy, whole, classes = float(right.mean()), [], []
    for seed in range(halves):
        known = half(data.labels, seed)
        measured = curves.measure(
            replace(photos_of(LabelledVectors(data.vectors[known], data.labels[known])), seed=seed)
        )
        said = curves.outlook(measured, seed=seed).twice
        whole.append((said.low <= accuracy <= said.high, said.high - said.low, (said.low + said.high) / 2 - accuracy))
        of_photos = data.labels[known][measured.scored]
        for class_id, share in enumerate(true):
            said = curves.outlook(measured, seed=seed, among=of_photos == class_id).twice
            classes.append(said.low <= share <= said.high)
    held, widths, biases = zip(*whole, strict=True)
    return Result(sum(held), halves, sum(classes), len(classes), float(np.mean(widths)), float(np.mean(biases)))


def photos_of(data: LabelledVectors) -> Photos:
    """Return vectors as photos, without files."""
    names = tuple(f"class {number}" for number in range(int(data.labels.max()) + 1))
    examples = tuple(
        Example(f"{names[label]}/{number}", label, Split.TRAINING) for number, label in enumerate(data.labels.tolist())
    )
    dataset = Dataset(Path("photos"), names, examples)
    return Photos(dataset, lambda rows: data.vectors[rows], [None] * len(examples), data.labels, seed=0)


def half(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return int64 [N / 2]: half of the photos of each class, in their order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rows = [order[labels[order] == class_id] for class_id in range(int(labels.max()) + 1)]
    return np.sort(np.concatenate([of_class[: len(of_class) // 2] for of_class in rows]))


if __name__ == "__main__":
    console.run("learning_curves", main)
