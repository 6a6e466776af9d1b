"""Damages what `retrain` reads, kills its runs and fills its disk, and counts what does not end as it should.

Each case is named, "kind/seed/number"; its name is its seed, and repeats it alone. Kinds are mixed in the shares of
`--counts`, so that an hour tries some of each, whenever it ends.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from retrain.errors import RetrainError

COUNTS = {
    "image": 10_000,
    "labels": 2_000,
    "model": 2_000,
    "metadata": 500,
    "weights": 300,
    "store": 400,
    "kill": 100,
    "full": 40,
}
_REPORT_SECONDS = 60


@dataclass
class Tally:
    """What was tried and what was found, counted by all threads; hands out the next case."""

    seed: int
    counts: dict[str, int]
    started: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_case(self) -> str | None:
        """Return the name of a case of the kind that is furthest behind its share, None where all are done."""
        with self.lock:
            open_kinds = [kind for kind, count in self.counts.items() if self.started[kind] < count]
            if not open_kinds:
                return None
            kind = min(open_kinds, key=lambda kind: self.started[kind] / self.counts[kind])
            self.started[kind] += 1
            return f"{kind}/{self.seed}/{self.started[kind] - 1}"

    def add(self, name: str, problems: Sequence[tuple[str, str]], repeat: str) -> None:
        """Count a case, and print what is wrong with it."""
        with self.lock:
            self.tried[kind_of(name)] += 1
            for column in {column for column, _ in problems}:
                self.found[kind_of(name), column] += 1
            for column, note in problems:
                print(f"{name}: {column}: {ascii(note)[1:-1]}\n  again: {repeat}", flush=True)

    def table(self, columns: Sequence[str]) -> list[str]:
        """Return the counts as lines of text, and their sums."""
        kinds = [*self.counts, "all"]
        rows = [["kind", "tried", *columns]]
        for kind in kinds:
            of = self.counts if kind == "all" else [kind]
            tried = sum(self.tried[each] for each in of)
            rows.append(
                [kind, f"{tried:,}", *(str(sum(self.found[each, column] for each in of)) for column in columns)]
            )
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def kind_of(name: str) -> str:
    """Return the kind of a case."""
    return name.partition("/")[0]


def main() -> int:
    """Try cases until the time is over or all are done, print the table, and return the exit code."""
    args = _parse()
    # Imported late: --help needs neither numpy nor Pillow.
    from scripts.torture import cases, children, inputs, runs

    columns = (cases.TRACEBACK, cases.CRASH, cases.HANG, cases.WRONG, cases.LOST, cases.TORN)
    with ExitStack() as opened:
        folder = args.inputs or Path(opened.enter_context(TemporaryDirectory(prefix="torture_inputs_")))
        folder.mkdir(parents=True, exist_ok=True)
        kinds = [kind_of(args.case)] if args.case else list(args.counts)
        made = inputs.make(folder.resolve(), kinds, args.data)
        if "store" in kinds:
            runs.clean_run(made, "head")
        if args.case:
            return _repeat(args.case, made, args.keep)
        if "full" in kinds:
            way = (
                "a tmpfs is mounted"
                if runs.can_mount()
                else "files are limited by RLIMIT_FSIZE: no tmpfs may be mounted"
            )
            print(f"Full disks: {way}.", flush=True)
        tally = Tally(args.seed, args.counts)
        deadline = time.monotonic() + 60 * args.minutes
        words = [f"--data={shlex.quote(str(args.data))}"] if args.data else []
        again = " ".join(["python -m scripts.torture", *words, "--case"])
        lanes = [
            threading.Thread(target=_lane, args=(tally, made, deadline, again), daemon=True) for _ in range(args.lanes)
        ]
        # What ends the torture ends what it has started, and what that has written.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            for lane in lanes:
                lane.start()
            _wait(lanes, tally)
        finally:
            children.PROCESSES.end()
            for lane in lanes:
                lane.join()
    print("\n".join(tally.table(columns)))
    return int(any(tally.found.values()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="when to stop (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases (default: %(default)d)")
    parser.add_argument("--only", metavar="KIND[,KIND...]", help=f"some kinds alone: {', '.join(COUNTS)}")
    parser.add_argument("--counts", default="", metavar="KIND=N[,...]", help=f"when to stop: {_spelt(COUNTS)}")
    parser.add_argument("--case", metavar="KIND/SEED/NUMBER", help="repeat one case, and say what becomes of it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="with --case: keep here what was tried")
    parser.add_argument("--inputs", type=Path, metavar="FOLDER", help="keep here what is damaged, for the next time")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="damage the .tgz archives in it, too")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="cases at a time (default: one a core)")
    args = parser.parse_args()
    try:
        asked = {
            kind: int(count) for kind, _, count in (part.partition("=") for part in args.counts.split(",") if part)
        }
    except ValueError:
        parser.error(f"--counts is {args.counts!r}; it must be as in {_spelt(COUNTS)}")
    only = args.only.split(",") if args.only else list(COUNTS)
    for kind in [*asked, *only, *([kind_of(args.case)] if args.case else [])]:
        if kind not in COUNTS:
            parser.error(f"there is no kind {kind!r}; kinds are {', '.join(COUNTS)}")
    args.counts = {kind: count for kind, count in (COUNTS | asked).items() if kind in only and count > 0}
    return args


def _spelt(counts: dict[str, int]) -> str:
    return ",".join(f"{kind}={count}" for kind, count in counts.items())


def _lane(tally: Tally, made: "object", deadline: float, again: str) -> None:
    """Run cases one after another, in a child of this lane's own or as runs of the command."""
    from scripts.torture.cases import CRASH
    from scripts.torture.children import Child, StoppedError

    # Pictures need no TensorFlow, and are not to wait for it when a model has crashed a child.
    with Child(made) as quick, Child(made) as slow, suppress(StoppedError):
        while time.monotonic() < deadline and (name := tally.next_case()):
            try:
                problems = _run(name, made, quick if kind_of(name) in ("image", "labels") else slow).problems
            except StoppedError:
                raise
            except Exception as error:  # a case that could not be tried is not one that went well
                problems = ((CRASH, f"of the torture itself: {error!r}"),)
            tally.add(name, problems, f"{again} {name}")


def _run(name: str, made: "object", child: "object") -> "object":
    from scripts.torture import cases, runs

    if kind_of(name) not in runs.RUNS:
        return child.run(name)
    with TemporaryDirectory(prefix="torture_") as folder:
        return runs.RUNS[kind_of(name)](cases.Case(name, made, Path(folder)))


def _wait(lanes: Sequence[threading.Thread], tally: Tally) -> None:
    """Wait until all lanes are done, and print the counts from time to time."""
    last = time.monotonic()
    for lane in lanes:
        while lane.is_alive():
            lane.join(1)
            if time.monotonic() - last > _REPORT_SECONDS:
                last = time.monotonic()
                print(" ".join(f"{kind} {tally.tried[kind]}" for kind in tally.counts), file=sys.stderr, flush=True)


def _repeat(name: str, made: "object", keep: Path | None) -> int:
    """Run one case, say what became of it, and return the exit code."""
    from scripts.torture.children import Child

    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with Child(made, keep.resolve() if keep else None) as child:
        outcome = _run(name, made, child)
    print(f"{name}: tried {outcome.digest}: {ascii(outcome.answer)[1:-1]}")
    for column, note in outcome.problems:
        print(f"{name}: {column}: {ascii(note)[1:-1]}")
    return int(bool(outcome.problems))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RetrainError as error:
        sys.exit(f"torture: {error}")
