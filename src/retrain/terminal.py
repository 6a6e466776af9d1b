"""Prints a run: results on standard output, progress and warnings on standard error.

A terminal gets a live line, colours and a closing panel (`screen.py`); a pipe or a file gets plain lines, which
scripts parse.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TextIO

from retrain.closing import Closing
from retrain.errors import printable
from retrain.screen import LiveLine, Screen, Spans, is_screen

if TYPE_CHECKING:  # values know no other leaf
    from retrain.history import Evaluation

_PLAIN_SECONDS = 5.0  # between two progress lines without a terminal
_DRAWN_SECONDS = 0.1  # between two drawings of a live line
_SHOWN_SECONDS = 2.0  # of time that is left, at least
_WHOLE = 1000  # parts of a training whose number of steps is unknown
_UNITS = (("h", 3600), ("min", 60), ("s", 1))


class Terminal:
    """Prints a run; stages get it to report progress and warnings, and know nothing else of the command."""

    def __init__(
        self,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        level: int = logging.INFO,
        quiet: bool = False,
        results: bool = True,
        by_make: bool = False,
    ) -> None:
        """Write results to `out`, progress and warnings to `err`, by default the process's own.

        `level` is the lowest of `logging` that is printed; a quiet terminal prints nothing at all, one without
        `results` prints progress and warnings, for a program that has results of its own. `by_make` says that people
        typed a target of the Makefile, so that what to type next is another.
        """
        self._out, self._err, self._level = out or sys.stdout, err or sys.stderr, logging.FATAL if quiet else level
        self._results, self._by_make = results, by_make
        self._screens: dict[TextIO, Screen | None] = {}
        self._live: _Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the live line, so that what comes after this terminal starts on a line of its own."""
        self._keep()

    def say(self, text: str) -> None:
        """Print a line of the results, at level INFO."""
        if self._results:
            self._print([(text, "")], logging.INFO, self._out)

    def say_all(self, lines: Iterable[str]) -> None:
        """Print lines of the results."""
        for line in lines:
            self.say(line)

    def detail(self, text: str) -> None:
        """Print a line at level DEBUG."""
        self._print([(text, "dim")], logging.DEBUG, self._err)

    def warn(self, text: str) -> None:
        """Print a line at level WARNING."""
        self._print([(text, "yellow")], logging.WARNING, self._err)

    def error(self, name: str, text: str) -> None:
        """Print the line that ends the command of a name."""
        self._print([(f"{name}: ", "bold red"), (text, "")], logging.FATAL, self._err)

    def progress(self, what: str, unit: str) -> Callable[[int, int], None]:
        """Return a function of (done, total) that draws a bar on a terminal and prints plain lines elsewhere.

        A total of 0 stands for an unknown one.
        """
        if self._level > logging.INFO:
            return lambda done, total: None
        screen = self._screen(self._err)
        return self._bar(screen, what, unit) if screen else self._lines(what, unit)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say on a terminal what takes some seconds, as long as it takes them."""
        screen = self._screen(self._err) if self._level <= logging.INFO else None
        if not screen:
            yield
            return
        pace = _Pace()
        self._show(screen, pace, LiveLine(what, 0, 0, [[("...", "dim")]]))
        try:
            yield
        finally:
            if self._live and self._live.pace is pace:
                screen.drop()
                self._live = None

    @contextmanager
    def training(self, steps: int, *, listed: bool = True) -> Iterator[Callable[["Evaluation"], None]]:
        """Give a function that shows the evaluations of a training of so many steps.

        They share a live line on a terminal; elsewhere they are the original's lines, unless they are not `listed`.
        """
        if not self._results:
            advance = self.progress("Training", "step")
            yield lambda row: advance(row.step + 1, steps)
            return
        screen = self._screen(self._out) if self._level <= logging.INFO else None
        if not screen:
            yield lambda row: self.say_all(row.lines() if listed else ())
            return
        pace, latest = _Pace(), None

        def show(row: "Evaluation") -> None:
            nonlocal latest
            latest = row
            if pace.is_due(row.step + 1):
                self._show(screen, pace, _evaluation(row, steps, pace))

        try:
            yield show
        finally:
            if latest:
                self._show(screen, pace, _evaluation(latest, steps, pace))
            self._keep()

    @contextmanager
    def fine_tuning(self, steps: int, *, listed: bool = True) -> Iterator["FineTuningLine"]:
        """Give what shows a fine-tuning of so many steps, 0 for an unknown number.

        It has a live line on a terminal; elsewhere its evaluations are the original's lines, unless they are not
        `listed`, each followed by one of the progress.
        """
        shown = FineTuningLine(self, steps, listed=listed)
        try:
            yield shown
        finally:
            shown.end()

    @contextmanager
    def closing(self, closing: Closing) -> Iterator[None]:
        """Print the end of a run; a terminal gets it as a panel, below all that is printed meanwhile."""
        screen = self._screen(self._out) if self._results and self._level <= logging.INFO else None
        if not screen:
            self.say_all(closing.lines(by_make=self._by_make))
            yield
            return
        self.say_all(closing.details)
        try:
            yield
        finally:
            self._keep()
            rows = closing.rows(by_make=self._by_make).items()
            shown = {label: [[printable(word) for word in words] for words in items] for label, items in rows}
            screen.panel(printable(closing.result), shown)

    def _print(self, spans: Spans, level: int, file: TextIO) -> None:
        if self._level > level:
            return
        spans = [(printable(text), style) for text, style in spans]
        screen, live = self._screen(file), self._live
        if live:
            live.screen.hide()
        if screen:
            screen.message(*spans)
        else:
            print("".join(text for text, _ in spans), file=file, flush=True)
        if live:
            live.screen.draw()

    def _screen(self, file: TextIO) -> Screen | None:
        """Return what draws on a file, None where it is no terminal."""
        if file not in self._screens:
            self._screens[file] = Screen(file) if is_screen(file) else None
        return self._screens[file]

    def _show(self, screen: Screen, pace: "_Pace", line: LiveLine) -> None:
        """Draw the live line of some work; that of other work stays above it."""
        if not self._live or self._live.pace is not pace:
            self._keep()
        self._live = _Live(screen, pace)
        screen.show(line)

    def _keep(self) -> None:
        if self._live:
            self._live.screen.keep()
            self._live = None

    def _bar(self, screen: Screen, what: str, unit: str) -> Callable[[int, int], None]:
        pace = _Pace()

        def advance(done: int, total: int) -> None:
            complete = 0 < total <= done
            if pace.is_due(done) or complete:
                self._show(screen, pace, _work(what, unit, done, total, pace))
            if complete:
                self._keep()

        return advance

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
            self.warn(f"{count} ({_speed(rate, unit)}{remaining})")

        return advance


class FineTuningLine:
    """Shows a fine-tuning: what its evaluations say so far, how far it is at each step, and the time that is left."""

    def __init__(self, terminal: Terminal, steps: int, *, listed: bool) -> None:
        """Show one of so many steps, 0 for an unknown number, whose evaluations are lines if they are `listed`."""
        self._terminal, self._steps, self._listed = terminal, steps, listed
        is_shown = terminal._level <= logging.INFO
        self._screen = terminal._screen(terminal._out if terminal._results else terminal._err) if is_shown else None
        self._pace, self._done, self._progress, self._looks = _Pace(), 0, 0.0, 0
        self._latest: Evaluation | None = None
        self._best = 0.0

    def step(self, done: int, progress: float) -> None:
        """Show that some steps are done, which are so much of the training, 0 to 1."""
        self._done, self._progress, self._looks = done, progress, self._looks + 1
        # The first step of a process compiles what the others run: the time that is left follows from those.
        if self._looks > 1 and self._pace.is_due(progress):
            self._draw()

    def evaluation(self, row: "Evaluation") -> None:
        """Show an evaluation; the first one, before any step, knows validation photos only."""
        self._latest, self._best, self._done = row, max(row.validation_accuracy, self._best), row.step + 1
        if self._screen or self._terminal._level > logging.INFO:
            self._draw()
            return
        if self._listed and not math.isnan(row.train_accuracy):
            self._terminal.say_all(row.lines())
        left = self._pace.left(self._progress, 1).strip()
        accuracy = f"validation accuracy {row.validation_accuracy:.1%}, best {self._best:.1%}"
        self._terminal.warn(f"Fine-tuning: {self._count()}, {accuracy}{left and f', {left}'}")

    def end(self) -> None:
        """Leave the line as it is at the end."""
        self._draw()
        if self._screen:
            self._terminal._keep()

    def _count(self) -> str:
        return f"step {self._done}/{self._steps}" if self._steps else f"step {self._done}"

    def _draw(self) -> None:
        if not self._screen or not self._latest:
            return
        forms = _so_far(self._latest, self._best, self._pace.left(self._progress, 1))
        line = LiveLine(self._count().capitalize(), round(self._progress * _WHOLE), _WHOLE, forms)
        self._terminal._show(self._screen, self._pace, line)


class _Pace:
    """How fast some work goes, and whether its live line is due to be drawn again."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._drawn, self._first = 0.0, 0.0

    def is_due(self, done: float) -> bool:
        """Return whether to draw the line, which is so at the first call; that starts the clock."""
        now = time.monotonic()
        if self._started is None:
            self._started, self._first = now, done
        elif now - self._drawn < _DRAWN_SECONDS:
            return False
        self._drawn = now
        return True

    def rate(self, done: float) -> float:
        """Return how much is done in a second, 0 where nothing was since the first call."""
        return (done - self._first) / max(time.monotonic() - (self._started or 0.0), 1e-9)

    def left(self, done: float, total: float) -> str:
        """Return the time that is left in words, "" where it is unknown or no time at all."""
        rate = self.rate(done)
        seconds = (total - done) / rate if rate > 0 else 0.0
        if seconds < _SHOWN_SECONDS:
            return ""
        unit, length = next((pair for pair in _UNITS if seconds >= 2 * pair[1]), _UNITS[-1])
        return f"  {seconds / length:.0f} {unit} left"


@dataclass(frozen=True)
class _Live:
    """Where the live line is, and whose it is."""

    screen: Screen
    pace: _Pace


def _work(what: str, unit: str, done: int, total: int, pace: _Pace) -> LiveLine:
    """Return the live line of some work."""
    of = f"/{_number(total, unit)}" if total else ""
    count, rate = (f"{_number(done, unit)}{of} {'MB' if unit == 'B' else f'{unit}s'}", ""), pace.rate(done)
    speed = (f"  {_speed(rate, unit)}" if rate > 0 else "", "cyan")
    return LiveLine(what, done, total, [[count, speed, (pace.left(done, total), "dim")], [count, speed], [count]])


def _evaluation(row: "Evaluation", steps: int, pace: _Pace) -> LiveLine:
    """Return the live line of a training at an evaluation."""
    done = row.step + 1
    accuracy, loss = (f"{row.train_accuracy:.1%}", "green"), (f"{row.train_cross_entropy:.4f}", "magenta")
    held_out = [(f"{row.validation_accuracy:.1%}", "bold cyan")] if row.validation_count else []
    full = [("accuracy ", ""), accuracy, ("  cross entropy ", ""), loss]
    forms = [
        [*full, *_labelled("  validation ", held_out), (pace.left(done, steps), "dim")],
        [*full, *_labelled("  validation ", held_out)],
        [accuracy, ("  ", ""), loss, *_labelled("  validation ", held_out)],
        [accuracy, ("  ", ""), loss, *_labelled("  val. ", held_out)],
        held_out or [accuracy],
    ]
    return LiveLine(f"Step {done}/{steps}", done, steps, forms)


def _so_far(row: "Evaluation", best: float, left: str) -> list[Spans]:
    """Return what a fine-tuning says at an evaluation in several lengths: its time counts more than its loss."""
    accuracy, loss = (f"{row.train_accuracy:.1%}", "green"), (f"{row.train_cross_entropy:.4f}", "magenta")
    trained = [("accuracy ", ""), accuracy, ("  cross entropy ", ""), loss, ("  ", "")]
    held_out = [("validation ", ""), (f"{row.validation_accuracy:.1%}", "bold cyan")]
    full = [*held_out, ("  best ", ""), (f"{best:.1%}", "bold cyan"), (left, "dim")]
    first = math.isnan(row.train_accuracy)  # before the first step
    return [*([] if first else [[*trained, *full]]), full, full[:-1], held_out[1:]]


def _labelled(label: str, spans: Spans) -> Spans:
    return [(label, ""), *spans] if spans else []


def _speed(rate: float, unit: str) -> str:
    if rate < 1:
        return f"{1 / rate:.0f} s per {unit}"
    return f"{_number(rate, unit)} {'MB' if unit == 'B' else f'{unit}s'}/s"


def _number(value: float, unit: str) -> str:
    return f"{value / 1e6:.1f}" if unit == "B" else f"{value:.0f}"
