"""Prints a run: results on standard output, progress and warnings on standard error."""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from retrain.errors import printable

_PLAIN_SECONDS = 5.0  # between two progress lines without a terminal


class Terminal:
    """Prints a run; stages get it to report progress and warnings, and know nothing else of the command."""

    def __init__(
        self, *, out: TextIO | None = None, err: TextIO | None = None, level: int = logging.INFO, quiet: bool = False
    ) -> None:
        """Write results to `out`, progress and warnings to `err`, by default the process's own.

        `level` is the lowest of `logging` that is printed; a quiet terminal prints nothing at all.
        """
        self._out, self._err, self._level = out or sys.stdout, err or sys.stderr, logging.FATAL if quiet else level

    def say(self, text: str) -> None:
        """Print a line of the results, at level INFO."""
        self._print(text, logging.INFO, self._out)

    def say_all(self, lines: Iterable[str]) -> None:
        """Print lines of the results."""
        for line in lines:
            self.say(line)

    def detail(self, text: str) -> None:
        """Print a line at level DEBUG."""
        self._print(text, logging.DEBUG, self._err)

    def warn(self, text: str) -> None:
        """Print a line at level WARNING."""
        self._print(text, logging.WARNING, self._err)

    def _print(self, text: str, level: int, file: TextIO) -> None:
        if self._level <= level:
            print(printable(text), file=file, flush=True)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return a function of (done, total) that draws a bar on a terminal and prints plain lines elsewhere.

        A total of 0 stands for an unknown one.
        """
        if self._level > logging.INFO:
            return lambda done, total: None
        return _bar(what, unit, self._err) if self._err.isatty() else self._lines(what, unit)

    def _lines(self, what: str, unit: str) -> Callable[[int, int], None]:
        started = last = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if done != total and now - last < _PLAIN_SECONDS:
                return
            last = now
            count = f"{what}: {f'{done}/{total}' if total else done}"
            if not done:  # a stalled download, say: its speed is unknown
                self.warn(count)
                return
            rate = done / max(now - started, 1e-9)
            remaining = f", {(total - done) / rate:.0f} s left" if done < total else ""
            speed = f"{_amount(rate, unit)}/s" if rate >= 1 else f"{1 / rate:.0f} s per {unit}"
            self.warn(f"{count} ({speed}{remaining})")

        return advance


def _bar(what: str, unit: str, err: TextIO) -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar: tqdm | None = None  # drawn at the first progress, so that a stage without work shows none

    def advance(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=what, total=total or None, unit=unit, unit_scale=unit == "B", file=err, dynamic_ncols=True)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return advance


def _amount(value: float, unit: str) -> str:
    return f"{value / 1e6:.1f} MB" if unit == "B" else f"{value:.0f} {unit}s"
