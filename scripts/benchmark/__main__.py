"""Measures retrain beside the original's method and beside the machine's limit, in one run: a table, benchmark.json.

`python -m scripts.benchmark --quick` takes about two minutes, the full run up to fifteen. Everything that it
measures is made in a temporary folder; the photos and archives are those of --data.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from scripts.benchmark.bench import Bench, Row
from scripts.benchmark.commands import commands, first_run, labelling
from scripts.benchmark.engines import choice, engines, precisions
from scripts.benchmark.fill import fill
from scripts.benchmark.fine_tuning import fine_tuning
from scripts.benchmark.growth import growth, million
from scripts.benchmark.training import heads, train

from retrain import workers
from retrain.backbones import processor
from retrain.cli import console, flags
from retrain.errors import RetrainError

# The photos that a part measures on; the others draw theirs.
FLOWERS, SANTA = "datasets/flowers_1100", "datasets/santa"
PHOTOS = {"fill": (FLOWERS, SANTA)} | dict.fromkeys(("precisions", "first_run", "commands", "labelling"), (FLOWERS,))


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments ask for, print the table and write benchmark.json."""
    parser = flags.Parser(prog="python -m scripts.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sets, about two minutes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="test data (default: %(default)s)")
    parts = f"some parts alone, of: {', '.join(MEASURES)}"
    parser.add_argument("--only", nargs="+", metavar="PART", choices=MEASURES, default=list(MEASURES), help=parts)
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="default: %(default)s")
    args = flags.parse(parser, arguments)
    _check_photos(args.data, args.only)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(set(args.only), key=list(MEASURES).index):
            bench = Bench(args.data.resolve(), Path(folder) / name, args.quick)
            bench.folder.mkdir()
            started = time.perf_counter()
            measured = MEASURES[name](bench)
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
    return console.DONE


def _check_photos(data: Path, names: Sequence[str]) -> None:
    """Raise RetrainError where a folder of photos that the parts need is missing: before minutes are measured."""
    missing = {folder for name in names for folder in PHOTOS.get(name, ()) if not (data / folder).is_dir()}
    if missing:
        raise RetrainError(
            f"there is no folder {data / min(missing)}. --data (DATA= of make benchmark) names a folder with "
            f"photos in {FLOWERS} and {SANTA}; archives of networks that are not in its models/ are downloaded."
        )


MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    measure.__name__: measure
    for measure in (
        fill, engines, precisions, choice, first_run, train, heads, fine_tuning, commands, growth, million, labelling,
    )
}  # fmt: skip


if __name__ == "__main__":
    console.run("benchmark", main)
