"""Counts how often learning curves are right: half of the photos say what all give, and which class comes next.

For each set and seed, half of the photos of each class are held back, and the others say which accuracy twice as many
would give. That is compared with what heads on all photos reach, out of fold, in all and of each class. And where the
others say of which class more photos would do most, held-back ones of it are added, or of the class beside it: as the
sets are, with few photos of one class, and with classes of all sizes.
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
from retrain.doctor import curves, heads, next_photos
from retrain.doctor.heads import Job
from retrain.doctor.photos import Photos
from retrain.evaluation.metrics import Interval
from retrain.training.cross_validation import assign_folds

HALVES = 10
SPLITS = range(10, 20)  # seeds; thresholds were chosen with those before
CASES = ("as they are", "few of one class", "classes of all sizes")
_KNOWN = 0.45  # of the photos of a class, for advice
_LEAST = 10  # photos of a class, for advice


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
    parser = flags.Parser(prog="python -m scripts.doctor.learning_curves", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    add("--architecture", default=catalogue.DEFAULT, metavar="NAME", help="default: the default network")
    add("--splits", type=int, default=len(SPLITS), metavar="N", help="for advice (default: %(default)s)")
    add("--halves", type=int, default=HALVES, metavar="N", help="of each set (default: %(default)s)")
    add("--bottleneck_dir", type=Path, default=RetrainConfig.bottleneck_dir, help="default: %(default)s")
    add("--model_dir", type=Path, default=RetrainConfig.model_dir, help="default: %(default)s")
    args = flags.parse(parser, arguments)
    console.quieten()
    sets = {
        name: bottlenecks(args.data / "datasets" / name, args.architecture, args.bottleneck_dir, args.model_dir)
        for name in SETS
    }
    print("| bottlenecks | held | of classes | width | middle, less what came |\n|---|---|---|---|---|")
    for name, data in sets.items():
        result = compare(data, halves=args.halves)
        held, classes = f"{result.held} of {result.halves}", f"{result.classes_held} of {result.classes}"
        figures = f"{100 * result.width:.1f} | {100 * result.bias:+.1f}"
        print(f"| {name}, {args.architecture} | {held} | {classes} | {figures} |", flush=True)
    print(
        "\n| bottlenecks | photos | advice | right | rise | of the other class | held |\n|---|---|---|---|---|---|---|"
    )
    for name, data in sets.items():
        for case in CASES:
            trials = [try_advice(data, shares_of(case, data.labels, seed), seed) for seed in SPLITS[: args.splits]]
            print(f"| {name}, {args.architecture} | {case} | {_row(trials)} |", flush=True)
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
    """Return half of the photos of each class, int64 [n], in their order."""
    return _part(labels, np.full(int(labels.max()) + 1, 0.5), seed)


def _part(labels: np.ndarray, shares: np.ndarray, seed: int, *, least: int = 0) -> np.ndarray:
    """Return int64 [n]: a share, float64 [C], of the photos of each class, at least `least`, in their order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rows = [order[labels[order] == class_id] for class_id in range(len(shares))]
    kept = [max(least, int(share * len(each))) for each, share in zip(rows, shares, strict=True)]
    return np.sort(np.concatenate([each[:count] for each, count in zip(rows, kept, strict=True)]))


@dataclass(frozen=True)
class Trial:
    """What advice came to: by how much the mean recall rose with the photos of each class that it names; None if none.

    `said` is the interval for the first of them.
    """

    advised: float
    other: float
    said: Interval


def try_advice(data: LabelledVectors, shares: np.ndarray, seed: int) -> Trial | None:
    """Return what advice from a part of the photos comes to, when held-back photos of both classes are added.

    Args:
        data: All photos.
        shares: float64 [C], of each class, to take advice from.
        seed: Decides which photos these are.
    """
    known = _part(data.labels, shares, seed, least=_LEAST)
    photos = replace(photos_of(LabelledVectors(data.vectors[known], data.labels[known])), seed=seed)
    effects = next_photos.measure(photos, curves.measure(photos))
    advice = next_photos.advise(effects)
    if advice is None:
        return None
    added = [
        (int(effects.classes[place]), more)
        for place, more in ((advice.best, advice.more), (advice.other, advice.more_of_other))
    ]
    advised, other = gains(data, known, added, seed)
    return Trial(advised, other, effects.interval(advice.best, advice.more))


def shares_of(case: str, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the shares of the photos of each class that advice is taken from in a case, float64 [C]."""
    classes = int(labels.max()) + 1
    shares = np.full(classes, _KNOWN)
    if case == CASES[1]:
        shares[seed % classes] /= 5
    if case == CASES[2]:
        shares *= np.geomspace(1, 0.2, classes)[np.random.default_rng(seed).permutation(classes)]
    return shares


def _row(trials: Sequence[Trial | None]) -> str:
    """Return how often there was advice, and what came of it, as cells of a table."""
    given = [trial for trial in trials if trial]
    if not given:
        return f"0 of {len(trials)} | | | |"
    right = sum(trial.advised > trial.other for trial in given)
    held = sum(trial.said.low <= trial.advised <= trial.said.high for trial in given)
    rise, other = (100 * float(np.mean([getattr(trial, name) for trial in given])) for name in ("advised", "other"))
    return f"{len(given)} of {len(trials)} | {right} | {rise:+.1f} | {other:+.1f} | {held}"


def gains(data: LabelledVectors, known: np.ndarray, added: Sequence[tuple[int, int]], seed: int) -> list[float]:
    """Return by how much the mean recall rises with so many more photos of a class each, of those that are held back.

    The held-back photos are divided into three folds. Each is scored four times, with photos added from the others.

    Args:
        data: All photos.
        known: int64 [n], the photos that a head has in any case.
        added: Class ids and numbers of photos.
        seed: Decides which photos are added.
    """
    rest = np.setdiff1d(np.arange(len(data.labels)), known)
    fold = assign_folds(data.labels[rest], np.arange(len(rest)), folds=3, seed=seed)
    rng, jobs = np.random.default_rng(seed), []
    for number in (0, 1, 2) * 4:
        scored, free = rest[fold == number], rng.permutation(rest[fold != number])
        more = [free[data.labels[free] == class_id][:count] for class_id, count in added]
        jobs += [Job(np.sort(np.concatenate([known, each])), scored) for each in (known[:0], *more)]
    recalls = []
    for job, scores in zip(jobs, heads.scores(replace(photos_of(data), seed=seed), jobs), strict=True):
        labels = data.labels[job.scored]
        right = np.bincount(labels, scores.argmax(axis=1) == labels) / np.bincount(labels)
        recalls.append(float(right.mean()))
    mean = np.reshape(recalls, (-1, 1 + len(added))).mean(axis=0)
    return [float(each) for each in mean[1:] - mean[0]]


if __name__ == "__main__":
    console.run("learning_curves", main)
