"""Compares the head with scikit-learn's logistic regression at its best C, on the bottlenecks of four sets.

Five stratified folds over all photos, the same for both, for each of three seeds. Both standardise on the training
folds. The head has the defaults of `retrain`; C is the one that is best on the very folds that it is measured on.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.cli import console, flags
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.split import DEFAULT_SPLIT
from retrain.data.variants import Distorter
from retrain.errors import RetrainError
from retrain.plans import recipe_of
from retrain.terminal import Terminal
from retrain.training import cross_validation
from retrain.training.recipe import TrainingPlan

SETS = ("flowers_1100", "santa", "cifar10_1200")
INCEPTION = Path("models/inception_v3_2015_bottlenecks_flowers_1100.npz")
FOLDS, SEEDS = 5, (0, 1, 2)
CS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class LabelledVectors:
    """Bottlenecks float32 [N, D] and their class ids int64 [N]."""

    vectors: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Result:
    """Mean accuracies, 0 to 1, of the head, and of logistic regression at the C where that is best."""

    head: float
    probe: float
    c: float


def main(arguments: Sequence[str]) -> int:
    """Print a row of a table for each set and network."""
    parser = flags.Parser(prog="python -m scripts.linear_probe", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    add("--architecture", nargs="+", default=[catalogue.DEFAULT], metavar="NAME", help="default: the default network")
    add("--bottleneck_dir", type=Path, default=RetrainConfig.bottleneck_dir, help="default: %(default)s")
    add("--model_dir", type=Path, default=RetrainConfig.model_dir, help="default: %(default)s")
    args = flags.parse(parser, arguments)
    if find_spec("sklearn") is None:
        raise RetrainError("scikit-learn is not installed. Install it: pip install scikit-learn")
    console.quieten()
    print("| bottlenecks | head | logistic regression | at C | difference |\n|---|---|---|---|---|")
    for name in args.architecture:
        for folder in SETS:
            data = bottlenecks(args.data / "datasets" / folder, name, args.bottleneck_dir, args.model_dir)
            _print(f"{folder}, {name}", compare(data))
    _print("flowers_1100, the original's inception_v3", compare(inception(args.data / INCEPTION)))
    return console.DONE


def bottlenecks(image_dir: Path, architecture: str, bottleneck_dir: Path, model_dir: Path) -> LabelledVectors:
    """Return the bottlenecks of all photos in a folder, whatever their split; the store keeps them."""
    with ExitStack() as opened, Terminal(results=False) as terminal:
        advance = terminal.progress("Downloading the backbone", "B")
        source = families.locate(catalogue.find(architecture), WeightsRequest(model_dir, None, 0, advance))
        settings = PreparationSettings(bottleneck_dir, Distorter(Distortions(), 0))
        dataset = scan(image_dir, DEFAULT_SPLIT)
        prepared = prepare(dataset, source, settings, None, terminal=terminal, opened=opened)
        labels = prepared.variants.labels
        return LabelledVectors(prepared.read(np.arange(len(labels))), labels)


def inception(path: Path) -> LabelledVectors:
    """Return the vectors that the original made of the flowers, from their file."""
    if not path.is_file():
        raise RetrainError(f"there is no file {path}. --data names the folder of the test data.")
    with np.load(path) as arrays:
        names = [name.split("/")[0] for name in arrays["path"].tolist()]
        return LabelledVectors(arrays["bottleneck"], np.unique(names, return_inverse=True)[1].astype(np.int64))


def compare(data: LabelledVectors, *, seeds: Sequence[int] = SEEDS, cs: Sequence[float] = CS) -> Result:
    """Return how accurate both are on folds that they were not trained on, mean of the folds and seeds."""
    from sklearn.model_selection import StratifiedKFold

    heads, probes = [], []
    for seed in seeds:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        fold = np.empty(len(data.labels), np.int64)
        for number, (training, testing) in enumerate(folds.split(data.vectors, data.labels)):
            fold[testing] = number
            probes.append(_probe_accuracies(data, training, testing, cs))
        heads += _head_accuracies(data, fold, seed)
    means = np.mean(probes, axis=0)
    best = int(means.argmax())
    return Result(float(np.mean(heads)), float(means[best]), cs[best])


def _head_accuracies(data: LabelledVectors, fold: np.ndarray, seed: int) -> list[float]:
    """Return the accuracy on each fold, int64 [N], of a head that was trained on the others as `retrain` does it."""
    default = RetrainConfig
    plan = TrainingPlan(
        default.how_many_training_steps,
        default.train_batch_size,
        default.validation_batch_size,
        default.eval_step_interval,
        seed,
    )
    photos = cross_validation.plain(lambda rows: data.vectors[rows], data.labels, int(data.labels.max()) + 1)
    scores = cross_validation.out_of_fold(photos, fold, recipe_of(RetrainConfig(Path())), plan)
    right = scores.argmax(axis=1) == data.labels
    return [float(right[fold == number].mean()) for number in range(FOLDS)]


def _probe_accuracies(
    data: LabelledVectors, training: np.ndarray, testing: np.ndarray, cs: Sequence[float]
) -> list[float]:
    """Return the accuracy of logistic regression on standardised vectors for each C."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler().fit(data.vectors[training])
    known, new = scaler.transform(data.vectors[training]), scaler.transform(data.vectors[testing])
    with threadpool_limits(1):  # on products so small, threads cost more than they gain
        probes = [LogisticRegression(C=c, max_iter=1000).fit(known, data.labels[training]) for c in cs]
    return [float(probe.score(new, data.labels[testing])) for probe in probes]


def _print(name: str, result: Result) -> None:
    gain = f"{100 * (result.head - result.probe):+.2f}"
    print(f"| {name} | {result.head:.2%} | {result.probe:.2%} | {result.c:g} | {gain} |", flush=True)


if __name__ == "__main__":
    console.run("linear_probe", main)
