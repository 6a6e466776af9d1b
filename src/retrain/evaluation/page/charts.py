"""Drawings as values: lines, ticks and marks in the units of an SVG's view box, which a template draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.errors import plural
from retrain.evaluation.metrics import Calibration
from retrain.evaluation.overfitting import smooth

WIDTH, HEIGHT = 460.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 14.0, 28.0  # margins around the plot
_TRIMMED = 4  # per cent of the values, those of the first steps, that do not stretch the axis
SIDE = 300.0  # of a reliability diagram


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in units of the drawing, and what stands there."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve: its name, its CSS class, its raw values and the smoothed ones as paths, its last smoothed value."""

    name: str
    style: str
    raw: str
    smoothed: str
    last: str


@dataclass(frozen=True)
class Mark:
    """The best point of a curve, and what is written there; `anchor` is SVG's `text-anchor`."""

    x: float
    y: float
    text_y: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Chart:
    """Curves over steps. `bounds` are vertical lines, each with its words; `summary` says the chart without eyes."""

    name: str
    title: str
    summary: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    best: Mark | None
    bounds: Sequence[Tick]


@dataclass(frozen=True)
class Series:
    """One curve to draw: float64 [E] `values` at int64 [E] `steps`, NaN where there are none."""

    name: str
    style: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Quantity:
    """What curves show: its title, how a value is written, and whether the largest one is best."""

    name: str
    title: str
    form: str
    rises: bool


ACCURACY = Quantity("accuracy", "Accuracy", ".1%", rises=True)
CROSS_ENTROPY = Quantity("cross_entropy", "Cross-entropy", ".3f", rises=False)
QUANTITIES = (ACCURACY, CROSS_ENTROPY)


@dataclass(frozen=True)
class _Axes:
    """Where steps and values stand in a drawing: 0 to `last` to the right, `low` to `high` upwards."""

    last: int
    low: float
    high: float

    def x(self, step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / self.last, 1)

    def y(self, value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low), 1)

    def path(self, steps: np.ndarray, values: np.ndarray) -> str:
        return _path([(self.x(step), self.y(value)) for step, value in zip(steps, values, strict=True)])


def draw(
    quantity: Quantity, series: Sequence[Series], *, bounds: Sequence[tuple[int, str]] = (), marks_best: bool = True
) -> Chart | None:
    """Return curves as a chart whose axes fit them, None without two points.

    Args:
        quantity: What the curves show.
        series: The curves, each smoothed between bounds; those without values are left out.
        bounds: Steps to mark with words.
        marks_best: Whether the best point of the last of `series` is marked, if it has values.
    """
    shown = [row for row in series if np.isfinite(row.values).sum() > 1]
    if not shown:
        return None
    smoothed = [_smoothed(row, [step for step, _ in bounds]) for row in shown]
    low, high = _limits(np.concatenate([row.values for row in shown]), quantity)
    axes = _Axes(max(int(row.steps[-1]) for row in shown) or 1, low, high)
    lines = [
        Line(
            row.name,
            row.style,
            axes.path(row.steps, row.values),
            axes.path(row.steps, values),
            format(float(values[np.isfinite(values)][-1]), quantity.form),
        )
        for row, values in zip(shown, smoothed, strict=True)
    ]
    best = _best(shown[-1], smoothed[-1], quantity) if marks_best and shown[-1] is series[-1] else None
    ends = ", ".join(f"{line.name} ends at {line.last}" for line in lines)
    return Chart(
        quantity.name,
        quantity.title,
        f"{quantity.title} over {axes.last} steps: {ends}{f' ({_words(best, quantity)})' if best else ''}.",
        [Tick(axes.x(tick), f"{tick:,.0f}" if tick else "step 0") for tick in _nice(0, axes.last, 5)],
        [Tick(axes.y(tick), _written(tick, quantity)) for tick in _ticks(low, high, quantity)],
        lines,
        _mark(best, axes, quantity) if best else None,
        [Tick(axes.x(bound), label) for bound, label in bounds],
    )


def _best(row: Series, smoothed: np.ndarray, quantity: Quantity) -> tuple[int, float]:
    """Return the step and the value of the best point of a smoothed curve."""
    place = int(np.nanargmax(smoothed if quantity.rises else -smoothed))
    return int(row.steps[place]), float(smoothed[place])


def _words(best: tuple[int, float], quantity: Quantity) -> str:
    return f"best {format(best[1], quantity.form)} at step {best[0]}"


def _mark(best: tuple[int, float], axes: _Axes, quantity: Quantity) -> Mark:
    """Return the mark of the best point, its words where curves leave room: above one that falls, else below."""
    at, height = axes.x(best[0]), axes.y(best[1])
    text = min(height + 24, HEIGHT - BOTTOM - 6) if quantity.rises else max(height - 45, TOP + 12)
    return Mark(at, height, text, _words(best, quantity), "start" if at < WIDTH / 2 else "end")


def _smoothed(row: Series, bounds: Sequence[int]) -> np.ndarray:
    """Return the smoothed values of a curve; what comes before a bound does not mix with what comes after."""
    parts = np.split(row.values, np.searchsorted(row.steps, bounds))
    return np.concatenate([smooth(part) for part in parts])


def _limits(values: np.ndarray, quantity: Quantity) -> tuple[float, float]:
    """Return the ends of an axis that fits values; a few of the first steps, far off, may lie outside."""
    known = values[np.isfinite(values)]
    if quantity.rises:
        low, high = float(np.percentile(known, _TRIMMED)), float(known.max())
    else:
        low, high = float(known.min()), float(np.percentile(known, 100 - _TRIMMED))
    margin = max(0.06 * (high - low), 0.005)
    low = low - margin
    return (low, min(high + margin, 1.0 + 0.02)) if quantity.rises else (max(0.0, low), high + margin)


def _ticks(low: float, high: float, quantity: Quantity) -> list[float]:
    """Return the values to write on an axis; margins around the curves reach where no accuracy can be."""
    if quantity.rises:
        low, high = max(0.0, low), min(1.0, high)
    return [tick for tick in _nice(low, high, 5) if low <= tick <= high]


def _nice(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _written(tick: float, quantity: Quantity) -> str:
    if quantity.rises:
        return f"{100 * tick:.4g}%"
    return f"{tick:.4g}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Return the data of an SVG path through points; NaN interrupts it."""
    words, pen = [], "M"
    for x, y in points:
        if math.isnan(y):
            pen = "M"
            continue
        words.append(f"{pen}{x:g} {y:g}")
        pen = "L"
    return "".join(words)


@dataclass(frozen=True)
class Dot:
    """A bin of a reliability diagram: its place, its radius by the number of its photos, and its words."""

    x: float
    y: float
    radius: float
    label: str


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: dots on the diagonal are as sure as they are right."""

    ticks: Sequence[Tick]
    dots: Sequence[Dot]
    path: str


def reliability(found: Calibration) -> Reliability:
    """Return a reliability diagram: mean score to the right, share of right answers upwards."""
    inner = SIDE - LEFT - RIGHT
    most = max((row.count for row in found.bins), default=1)
    dots = [
        Dot(
            round(LEFT + inner * row.score, 1),
            round(RIGHT + inner * (1 - row.accuracy), 1),
            round(3 + 8 * math.sqrt(row.count / most), 1),
            f"{plural(row.count, 'photo')}: {row.score:.0%} sure, {row.accuracy:.0%} right",
        )
        for row in found.bins
        if row.count
    ]
    ticks = [Tick(round(inner * share / 4, 1), f"{share / 4:.0%}") for share in range(5)]
    return Reliability(ticks, dots, _path([(dot.x, dot.y) for dot in dots]))
