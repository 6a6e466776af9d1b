"""Measures which engine runs a backbone fastest on this processor, and remembers it beside the frozen backbone."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones import processor
from retrain.backbones.engines import TITLES
from retrain.backbones.runner import BackboneRunner
from retrain.files import read_regular, write_atomically

_SECONDS = 0.4  # of all engines together, their start left out
_AS_GOOD = 0.96  # of the fastest
_THREADS = 16  # at most: more are measured no better
_FILE, _FILE_BYTES = "engines.json", 2**20


@dataclass(frozen=True)
class Measurement:
    """Images a second of each engine that ran a backbone; the first is preferred where it makes no difference."""

    rates: Mapping[str, float]

    @property
    def choice(self) -> str:
        """Return the name of the fastest engine, or of one before it that is as good as that."""
        return next(name for name, rate in self.rates.items() if rate >= _AS_GOOD * max(self.rates.values()))

    def __str__(self) -> str:
        choice = self.choice
        others = "".join(f", {TITLES[name]} {rate:.0f}" for name, rate in self.rates.items() if name != choice)
        return f"{TITLES[choice]} runs it, {self.rates[choice]:.0f} photos a second{others}"


def measure(runners: Mapping[str, BackboneRunner], photos: Sequence[np.ndarray]) -> Measurement:
    """Return how fast engines run a backbone on photos, uint8 [H, W, 3]; engines that fail say so and are left out.

    They take turns, so that all meet the machine's better and worse moments, and the best turn of each counts.

    Raises:
        BackboneError: All fail.
    """
    threads = max(1, min(_THREADS, *(runner.threads for runner in runners.values())))
    best = dict.fromkeys(runners, 0.0)
    spent = 0.0
    with ThreadPoolExecutor(threads) as pool:
        turns = {name: _turn(runner, photos, threads, pool) for name, runner in runners.items()}
        for turn in turns.values():  # the first one allocates what it needs
            turn()
        while spent < _SECONDS:
            for name, turn in turns.items():
                started = time.perf_counter()
                count = turn()
                taken = time.perf_counter() - started
                best[name] = max(best[name], count / taken)
                spent += taken
    return Measurement(best)


def _turn(
    runner: BackboneRunner, photos: Sequence[np.ndarray], threads: int, pool: ThreadPoolExecutor
) -> Callable[[], int]:
    """Return what runs a few images, some on each thread or a small batch, and returns how many."""
    if runner.batched:
        batch = np.stack(photos)
        return lambda: len(runner.run_batch(batch))
    runs = [runner.runner_of_several() for _ in range(threads)]
    images = [photos[number % len(photos)] for number in range(runner.at_once)]
    return lambda: sum(pool.map(lambda run: len(list(run(images))), runs))


def remembered(folder: Path, precision: str) -> Measurement | None:
    """Return what was measured on this processor for a backbone in a folder, None where nothing was."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        rates = _read(folder)[processor.identity()][precision]
        return (
            Measurement({str(name): float(rate) for name, rate in rates.items() if name in TITLES}) if rates else None
        )
    return None


def remember(folder: Path, precision: str, measurement: Measurement) -> None:
    """Keep what was measured on this processor for the backbone in a folder; those of other processors stay."""
    processor_name, rows = processor.identity(), {}
    with suppress(OSError, ValueError):
        rows = _read(folder)
    if not isinstance(rows, dict) or not isinstance(rows.get(processor_name, {}), dict):
        rows = {}
    rates = {name: round(rate, 1) for name, rate in measurement.rates.items()}
    rows[processor_name] = rows.get(processor_name, {}) | {precision: rates}
    with suppress(OSError):  # a disk that may only be read: the next fill measures again
        write_atomically(folder / _FILE, f"{json.dumps(rows, indent=1)}\n".encode())


def _read(folder: Path) -> Any:
    return json.loads(read_regular(folder / _FILE, _FILE_BYTES))
