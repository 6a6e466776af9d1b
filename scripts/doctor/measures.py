"""Measures the doctor on folders of photos: flipped labels, strangers, and what it finds where nothing was changed.

Labels are flipped to any other class, and a few photos of another folder are put among a folder's classes; how many are
found is counted, by ours, by cleanlab on the same folds, and by a head that has seen the labels. Whoever knows the
photos says which findings of all checks, on the whole folders and on random halves of them, are false alarms.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scripts.doctor.learning_curves import half, photos_of
from scripts.linear_probe import inception

from retrain import checking
from retrain.backbones import catalogue
from retrain.cli import console, flags
from retrain.config import RetrainConfig
from retrain.data.dataset import Example
from retrain.data.split import Split
from retrain.doctor import examining, labels, outliers, scoring
from retrain.doctor.findings import Finding
from retrain.doctor.photos import Photos
from retrain.terminal import Terminal
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

STRANGERS = 20
PARTS = ("labels", "strangers", "alarms")
_STEPS, _BATCH = 4000, 100  # of the head that has seen the labels, as of those that have not
_VECTORS = ".npz"


@dataclass(frozen=True)
class Flipped:
    """Class ids int64 [N], and the numbers of those that are not what they were, int64 [n]."""

    labels: np.ndarray
    wrong: np.ndarray


def main(arguments: Sequence[str]) -> int:
    """Print a table for each part, and the findings below the last."""
    args = flags.parse(_parser(), arguments)
    console.quieten()
    with ExitStack() as opened, Terminal(results=False) as terminal:
        places = {"architecture": args.architecture, "bottleneck_dir": args.bottleneck_dir, "model_dir": args.model_dir}
        sets: dict[str, Photos] = {}
        for path in args.photos:
            if path.suffix == _VECTORS:
                photos = photos_of(inception(path))
            else:
                photos = held(checking.opened_photos(RetrainConfig(path, **places), terminal, opened)[0])
            sets[str(path) if path.name in sets else path.name] = photos
        if "labels" in args.only:
            print_labels(sets, args.flipped, args.seeds, args.pairs)
        if "strangers" in args.only:
            print_strangers(sets, args.seeds, args.halves)
        if "alarms" in args.only:
            print_alarms({name: photos for name, photos in sets.items() if photos.folder}, args.halves)
    return console.DONE


def print_labels(sets: Mapping[str, Photos], shares: Sequence[float], seeds: int, pairs: int = 0) -> None:
    """Print a row for each set and share of flipped labels: found, and how many of those that are named.

    With pairs, so many classes each have that share called one other class.
    """
    methods = ["ours, first heads", "ours", "cleanlab", "in sample"]
    if find_spec("cleanlab") is None:
        methods.remove("cleanlab")
        print("cleanlab is not installed, and left out: pip install cleanlab\n")
    compared = [method for method in methods if method in ("ours", "cleanlab")]
    print(_row(["set", "flipped", *methods, f"{', '.join(compared)}, unflipped"]))
    print(_row(["---"] * (3 + len(methods))), flush=True)
    for name, photos in sets.items():
        clean = named(photos, photos.labels, with_cleanlab="cleanlab" in methods)
        untouched = f"{', '.join(str(len(clean[method])) for method in compared)} of {len(photos.labels):,}"
        for share in shares:
            rows = []
            for seed in range(seeds):
                if pairs:
                    changed = confused(photos.labels, seed=seed, share=share, pairs=pairs)
                else:
                    changed = flipped(photos.labels, seed=seed, share=share)
                found = named(photos, changed.labels, with_cleanlab="cleanlab" in methods)
                rows.append([rates(found[method], changed.wrong) for method in methods])
            cells = [f"{found:.0%}, {exact:.0%}" for found, exact in np.mean(rows, axis=0).tolist()]
            print(_row([name, f"{share:.1%}", *cells, untouched]), flush=True)
    print()


def print_strangers(sets: Mapping[str, Photos], seeds: int, halves: int) -> None:
    """Print a row for each set that another of these has as many features as: which of its photos are found in it."""
    print(_row(["set", "found", "of the photos named, strange ones", "named in the set as it is", "in its halves"]))
    print(_row(["---"] * 5), flush=True)
    for name, photos in sets.items():
        rows = []
        for other in (each for each in sets.values() if each is not photos and _length(each) == _length(photos)):
            for seed in range(seeds):
                mixed = with_strangers(photos, other, seed=seed)
                strange = np.arange(len(photos.labels), len(mixed.labels))
                rows.append(rates(numbers(mixed, outliers.check(mixed)), strange))
        found = [f"{rate:.0%}" for rate in np.mean(rows, axis=0).tolist()] if rows else ["no other set"] * 2
        parts = [part(photos, half(photos.labels, seed)) for seed in range(halves)]
        whole, *in_halves = [len(numbers(each, outliers.check(each))) for each in (photos, *parts)]
        print(_row([name, *found, f"{whole} of {len(photos.labels):,}", ", ".join(map(str, in_halves))]), flush=True)
    print()


def print_alarms(sets: Mapping[str, Photos], halves: int) -> None:
    """Print how much all checks find in sets and in halves of them, and then each finding once."""
    print(_row(["set", "findings", "in its halves"]))
    print(_row(["---"] * 3), flush=True)
    said: dict[tuple[str, str, str], list[str]] = {}
    for name, photos in sets.items():
        parts = {"whole": photos}
        parts |= {f"half {seed}": part(photos, half(photos.labels, seed)) for seed in range(halves)}
        counts = []
        for place, each in parts.items():
            findings = examining.examine(each).findings
            counts.append(len(findings))
            for finding in findings:
                said.setdefault((name, finding.kind, finding.sentence), []).append(place)
        print(_row([name, str(counts[0]), ", ".join(map(str, counts[1:]))]), flush=True)
    print()
    for (name, kind, sentence), places in said.items():
        print(f"- {name} ({', '.join(places)}), {kind}: {sentence}")


def named(photos: Photos, given: np.ndarray, *, with_cleanlab: bool = True) -> dict[str, np.ndarray]:
    """Return the numbers of the photos that each method names, int64 [n], where photos have these labels, int64 [N]."""
    labelled = replace(photos, labels=given)
    scores = scoring.out_of_fold(labelled)
    first = labels.suspects(scores, given).numbers
    found = {"ours, first heads": first, "ours": numbers(labelled, labels.check(labelled, scores))}
    if with_cleanlab:
        found["cleanlab"] = by_cleanlab(given, scores)
    as_many = len(found["cleanlab" if with_cleanlab else "ours"])
    found["in sample"] = np.argsort(in_sample(labelled), kind="stable")[:as_many]
    return found


def flipped(right: np.ndarray, *, seed: int, share: float = 0.05) -> Flipped:
    """Return class ids of which a share is any other at random."""
    rng, classes = np.random.default_rng(seed), int(right.max()) + 1
    wrong = rng.choice(len(right), round(share * len(right)), replace=False)
    changed = right.copy()
    changed[wrong] = (right[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return Flipped(changed, wrong)


def confused(right: np.ndarray, *, seed: int, share: float, pairs: int) -> Flipped:
    """Return class ids of which a share of some classes is one other class: of as many classes as pairs, but of one."""
    rng, classes = np.random.default_rng(seed), int(right.max()) + 1
    order, changed, wrong = rng.permutation(classes), right.copy(), [np.zeros(0, np.int64)]
    for place in range(min(pairs, classes - 1)):
        members = np.flatnonzero(right == order[place])
        wrong.append(rng.choice(members, round(share * len(members)), replace=False))
        changed[wrong[-1]] = order[place + 1]
    return Flipped(changed, np.concatenate(wrong))


def rates(found: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Return the share of the wrong ones that is found, and the share of the found ones that is wrong, 1 of none."""
    hits = len(np.intersect1d(found, wrong))
    return hits / max(1, len(wrong)), hits / len(found) if len(found) else 1.0


def by_cleanlab(given: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the numbers of the photos that cleanlab suspects as it comes, int64 [n]."""
    from cleanlab.filter import find_label_issues

    return np.flatnonzero(find_label_issues(given, scores, n_jobs=1))


def in_sample(photos: Photos) -> np.ndarray:
    """Return how much a head that has seen all labels agrees with each, float64 [N].

    That is the mean of its probability and of its logit's distance to the largest other one, scaled to 0 to 1.
    """
    rows, classes = np.arange(len(photos.labels)), len(photos.dataset.class_names)
    plan = TrainingPlan(_STEPS, _BATCH, validation_batch_size=1, eval_step_interval=_STEPS, seed=photos.seed)
    samples = sampling.sample_training(photos.labels, rows, rows[:0], plan)
    data = TrainingData(photos.gather, photos.labels, rows, classes)
    head = head_training.train(data, samples, HeadRecipe(), plan).head
    logits = head.logits(photos.gather(rows)).astype(np.float64)
    own = logits[rows, photos.labels].copy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = powers[rows, photos.labels] / powers.sum(axis=1)
    logits[rows, photos.labels] = -np.inf
    margin = own - logits.max(axis=1)
    agreement: np.ndarray = (probability + (margin - margin.min()) / max(np.ptp(margin), 1e-9)) / 2
    return agreement


def with_strangers(photos: Photos, other: Photos, *, seed: int) -> Photos:
    """Return photos among whose classes are some of another set, at the end."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(other.labels), min(STRANGERS, len(other.labels)), replace=False)
    classes = rng.integers(0, len(photos.dataset.class_names), len(chosen))
    strange = [Example(f"strange/{number}", label, Split.TRAINING) for number, label in enumerate(classes.tolist())]
    vectors = np.concatenate([photos.gather(np.arange(len(photos.labels))), other.gather(chosen)])
    return replace(
        photos,
        dataset=replace(photos.dataset, examples=(*photos.dataset.examples, *strange)),
        gather=lambda rows: vectors[rows],
        keys=[*photos.keys, *[None] * len(chosen)],
        labels=np.concatenate([photos.labels, classes]),
    )


def part(photos: Photos, kept: np.ndarray) -> Photos:
    """Return some of the photos, those of numbers int64 [n], as if there were no others."""
    places = kept.tolist()
    return replace(
        photos,
        dataset=replace(photos.dataset, examples=tuple(photos.dataset.examples[each] for each in places)),
        gather=lambda rows: photos.gather(kept[rows]),
        keys=[photos.keys[each] for each in places],
        labels=photos.labels[kept],
        describe=lambda rows: photos.describe(kept[rows]),
    )


def held(photos: Photos) -> Photos:
    """Return the same photos with their bottlenecks in memory."""
    vectors = photos.gather(np.arange(len(photos.labels)))
    return replace(photos, gather=lambda rows: vectors[rows])


def numbers(photos: Photos, findings: Sequence[Finding]) -> np.ndarray:
    """Return the numbers of the photos that findings name, int64 [n], in their order."""
    place = {example.path: number for number, example in enumerate(photos.dataset.examples)}
    return np.array([place[path] for finding in findings for path in finding.photos], np.int64)


def _length(photos: Photos) -> int:
    """Return how many features photos have."""
    return int(photos.gather(np.zeros(1, np.int64)).shape[1])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(word: str) -> float:
    """Return a number between 0 and 1, without both."""
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no share of labels; give a number between 0 and 1, such as 0.05")
    return share


def _parser() -> flags.Parser:
    parser = flags.Parser(prog="python -m scripts.doctor.measures", description=__doc__.split("\n")[0])
    add: Callable[..., object] = parser.add_argument
    text = f"folders of photos, one sub-folder for each class; a file of the original's vectors ends in {_VECTORS}"
    add("photos", type=Path, nargs="+", metavar="FOLDER", help=text)
    text = "of labels, shares (default: %(default)s)"
    add("--flipped", type=_share, nargs="+", default=[0.05], metavar="SHARE", help=text)
    text = "flip that share of so many classes, each to one other class (default: of all labels, to any other class)"
    add("--pairs", type=int, default=0, metavar="N", help=text)
    add("--seeds", type=int, default=3, metavar="N", help="of flips and of strangers (default: %(default)s)")
    add("--halves", type=int, default=3, metavar="N", help="of each folder (default: %(default)s)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    add("--architecture", default=catalogue.DEFAULT, metavar="NAME", help="default: the default network")
    add("--bottleneck_dir", type=Path, default=RetrainConfig.bottleneck_dir, help="default: %(default)s")
    add("--model_dir", type=Path, default=RetrainConfig.model_dir, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    console.run("measures", main)
