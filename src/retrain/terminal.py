"""Prints what happens: results on standard output, progress and warnings on standard error."""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from retrain.errors import printable

_PLAIN_SECONDS = 5.0  # between two progress lines where there is no terminal


class Terminal:
    """Prints a run: results on standard output, progress and warnings on standard error."""

    def __init__(
        self, *, out: TextIO | None = None, err: TextIO | None = None, level: int = logging.INFO, quiet: bool = False
    ) -> None:
        """Write to `out` and `err`, by default the process's own.

        Args:
            out: Gets results.
            err: Gets progress and warnings.
            level: What is below this level of `logging` is left out.
            quiet: Whether nothing is written at all.
        """
        self._out, self._err, self._level = out or sys.stdout, err or sys.stderr, logging.FATAL if quiet else level

    def say(self, text: str) -> None:
        """Print a line of the result."""
        if self._level <= logging.INFO:
            print(printable(text), file=self._out, flush=True)

    def say_all(self, lines: Iterable[str]) -> None:
        """Print lines of the result."""
        for line in lines:
            self.say(line)

    def detail(self, text: str) -> None:
        """Print a line that only the curious want."""
        if self._level <= logging.DEBUG:
            print(printable(text), file=self._err, flush=True)

    def warn(self, text: str) -> None:
        """Print a line that the user should read."""
        if self._level <= logging.WARNING:
            print(printable(text), file=self._err, flush=True)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return a function of (done, total) that draws a bar on a terminal and plain lines elsewhere.

        A total of 0 stands for one that is not known.
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
            counted = f"{what}: {f'{done}/{total}' if total else done}"
            if not done:  # a download that stands still, say: there is no speed to tell
                self.warn(counted)
                return
            rate = done / max(now - started, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if done < total else ""
            speed = f"{_amount(rate, unit)}/s" if rate >= 1 else f"{1 / rate:.0f} s per {unit}"
            self.warn(f"{counted} ({speed}{left})")

        return advance


def _bar(what: str, unit: str, err: TextIO) -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar: tqdm | None = None  # drawn at the first progress: where nothing is to do there is nothing to show

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
