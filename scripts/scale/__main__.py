"""Measures what a cluster costs on this machine, and plans larger ones from that: `python -m scripts.scale`.

It measures the filling of a store by a cluster of this machine beside the local one, and each step: reading, from disk
and from an S3 server on this machine, computing, committing, merging, listing. Simulations of larger clusters draw from
these.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from scripts.benchmark.bench import Bench
from scripts.scale.figures import Figures
from scripts.scale.measuring import measure_overhead, measure_steps
from scripts.scale.million import measure_million
from scripts.scale.planning import HEAD, Assumptions, plan, row

from retrain.backbones import processor
from retrain.cli import console, flags
from retrain.errors import RetrainError, UsageError

_PHOTOS, _NODES = (10**6, 10**7, 10**8), (1, 10, 100, 1000)
_MEASURES: dict[str, Callable[[Bench], Any]] = {
    "overhead": measure_overhead,
    "million": measure_million,
    "steps": measure_steps,
}


def main(arguments: Sequence[str]) -> int:
    """Measure, simulate, print the tables and write the figures."""
    args = flags.parse(_parser(), arguments)
    _check(args)
    if args.figures:
        _simulate(Figures.from_file(args.figures), args)
        return console.DONE
    if not (args.data / "datasets" / "flowers_1100").is_dir():
        raise RetrainError(f"there is no folder {args.data}/datasets/flowers_1100. --data names the test data.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(f"{date.today()}, {processor.identity()}, {'quick' if args.quick else 'full'}\n", flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="retrain_scale_") as folder:
        for name in sorted(set(args.only), key=list(_MEASURES).index):
            found[name] = _measure(name, Bench(args.data.resolve(), Path(folder) / name, args.quick))
    rows = {name: asdict(each) for name, each in found.items()}
    if "steps" in found:
        rows["figures"] = rows["steps"].pop("figures")
        _simulate(found["steps"].figures, args)
    args.output.write_text(json.dumps({"date": str(date.today()), "processor": processor.identity(), **rows}) + "\n")
    return console.DONE


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be simulated."""
    values = {name: getattr(args, name) for name in _ASSUMED} | {"nodes": min(args.nodes)}
    for name, value in values.items():
        least = 1 if isinstance(value, int) else 0
        if not value >= least:  # neither is what is no number
            raise UsageError(f"--{name} is {value}; it must be at least {least}.")
    if args.folders > min(args.photos):
        raise UsageError(f"--folders {args.folders} are more than --photos {min(args.photos)}")


def _measure(name: str, bench: Bench) -> Any:
    bench.folder.mkdir()
    started = time.perf_counter()
    found = _MEASURES[name](bench)
    print("\n".join(found.lines()), end="\n\n")
    seconds = time.perf_counter() - started
    print(f"[{name}: {seconds:.0f} s, load {os.getloadavg()[0]:.1f}]", file=sys.stderr, flush=True)
    return found


def _simulate(figures: Figures, args: argparse.Namespace) -> None:
    """Print a table of clusters of `args.nodes` nodes."""
    assumed = Assumptions(**{name: getattr(args, name) for name in _ASSUMED})
    print(f"Simulated, seed 0: {assumed}\n\n{HEAD}")
    for photos in args.photos:
        for nodes in args.nodes:
            print(row(plan(photos, nodes, figures, assumed)), flush=True)


# Field of `Assumptions` -> its value by default, and what its flag says.
_ASSUMED: dict[str, tuple[Any, str]] = {
    "folders": (1000, "class folders that the photos lie in"),
    "listers": (16, "class folders that are listed at once"),
    "round_trip": (0.1, "seconds that a request takes more than on this machine"),
    "cores_per_node": (4, "cores of a node"),
    "slow_share": (0.02, "share of nodes that are slow"),
    "slowdown": (3.0, "how many times as long slow nodes take"),
    "losses_per_hour": (0.05, "how often a node is lost in an hour, as spot nodes are"),
    "seconds_to_replace": (120.0, "seconds until another one is there"),
    "dollars_per_core_hour": (0.04, "price of a core in an hour, an assumption as all of these"),
}


def _parser() -> flags.Parser:
    parser = flags.Parser(prog="python -m scripts.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer photos and rounds")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", metavar="PART", choices=_MEASURES, default=list(_MEASURES),
        help=f"measure some parts alone, of: {', '.join(_MEASURES)}",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("scale.json"), help="default: %(default)s")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="simulate with this output of an earlier run")
    parser.add_argument("--photos", nargs="+", type=int, default=_PHOTOS, help="of simulations")
    parser.add_argument("--nodes", nargs="+", type=int, default=_NODES, help="of simulated clusters")
    for name, (value, text) in _ASSUMED.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{text} (default: %(default)s)")
    return parser


if __name__ == "__main__":
    console.run("scale", main)
