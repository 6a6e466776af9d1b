"""Sweeps: every combination of several values of flags, the name of each, and their ranking."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from retrain.evaluation.metrics import Interval

# The flags that take several values, and the prefix of each in the name of a run.
SWEEPABLE = {
    "architecture": "",
    "learning_rate": "LR_",
    "train_batch_size": "BATCH_",
    "hidden_units": "HIDDEN_",
    "optimizer": "",
    "random_seed": "SEED_",
}


@dataclass(frozen=True)
class Trial:
    """One combination of values; its name is "" where there is only one."""

    name: str
    values: dict[str, Any]

    def shown(self) -> dict[str, float | str]:
        """Return the values as TensorBoard shows them: numbers, and text for all else."""
        return {
            flag: float(value) if isinstance(value, int | float) else _text(value)
            for flag, value in self.values.items()
        }


@dataclass(frozen=True)
class TrialResult:
    """The results of a trial: validation accuracy with its interval, seconds of training, bytes of the graph.

    The accuracy is NaN where the training failed.
    """

    name: str
    accuracy: float
    cross_entropy: float
    interval: "Interval"
    seconds: float
    size: int

    @property
    def failed(self) -> bool:
        """Return whether the training failed."""
        return math.isnan(self.accuracy)


def result_of(
    trial: Trial, probabilities: "np.ndarray", labels: "np.ndarray", *, seconds: float, size: int
) -> TrialResult:
    """Return the result of a trial on all validation photos: `probabilities` float32 [n, C], `labels` int64 [n]."""
    from retrain.evaluation import metrics

    hits = int((probabilities.argmax(axis=1) == labels).sum())
    loss = metrics.cross_entropy(probabilities, labels) if len(labels) else math.inf
    if math.isnan(loss):
        return failed_result(trial)
    interval = metrics.wilson_interval(hits, len(labels))
    return TrialResult(trial.name, hits / max(1, len(labels)), loss, interval, seconds, size)


def failed_result(trial: Trial) -> TrialResult:
    """Return the result of a trial whose training failed."""
    from retrain.evaluation.metrics import Interval

    return TrialResult(trial.name, math.nan, math.nan, Interval(math.nan, math.nan), math.nan, 0)


def trials(choices: Mapping[str, Sequence[Any]]) -> list[Trial]:
    """Return every combination of values, in their order, each once and under a name of its own.

    For no choices there is one trial, without a name.
    """
    flags = [flag for flag in SWEEPABLE if flag in choices]
    made: dict[str, Trial] = {}
    for row in itertools.product(*(dict.fromkeys(choices[flag]) for flag in flags)):
        values = dict(zip(flags, row, strict=True))
        name = _name(values)
        if name in made:  # the files of two paths whose signs were replaced must not overwrite each other
            name = f"{name}_{len(made) + 1}"
        made[name] = Trial(name, values)
    return list(made.values())


def ranking(results: Sequence[TrialResult]) -> list[int]:
    """Return indices, best first: by validation accuracy, then by cross-entropy, then in the order of the trials.

    Those that failed are last.
    """

    def key(index: int) -> tuple[float, float, int]:
        result = results[index]
        return (math.inf, 0, index) if result.failed else (-result.accuracy, result.cross_entropy, index)

    return sorted(range(len(results)), key=key)


def table(results: Sequence[TrialResult]) -> list[str]:
    """Return the lines of a table of trials, best first."""
    width = max(len("run"), *(len(result.name) for result in results))
    head = f"{'run':<{width}}  validation  95% interval       cross entropy    time    size"
    return [head, *(_row(results[index], width) for index in ranking(results))]


def _row(result: TrialResult, width: int) -> str:
    name, low, high = f"{result.name:<{width}}", result.interval.low, result.interval.high
    if result.failed:
        return f"{name}      failed"
    return (
        f"{name}  {result.accuracy:>10.1%}  {low:>6.1%} to {high:>6.1%}  {result.cross_entropy:>13.4f}  "
        f"{result.seconds:>4.1f} s  {result.size / 1e6:>4.1f} MB"
    )


def _name(values: Mapping[str, Any]) -> str:
    return "_".join(f"{SWEEPABLE[flag]}{_text(value)}" for flag, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "0"
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in str(value))
