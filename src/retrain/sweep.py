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
    """The results of a trial: validation accuracy with its interval, seconds of training, bytes of the graph."""

    name: str
    accuracy: float
    cross_entropy: float
    interval: "Interval"
    seconds: float
    size: int


def result_of(
    trial: Trial, probabilities: "np.ndarray", labels: "np.ndarray", *, seconds: float, size: int
) -> TrialResult:
    """Return the result of a trial on all validation photos: `probabilities` float32 [n, C], `labels` int64 [n]."""
    from retrain.evaluation import metrics

    hits = int((probabilities.argmax(axis=1) == labels).sum())
    loss = metrics.cross_entropy(probabilities, labels) if len(labels) else math.inf
    interval = metrics.wilson_interval(hits, len(labels))
    return TrialResult(trial.name, hits / max(1, len(labels)), loss, interval, seconds, size)


def trials(choices: Mapping[str, Sequence[Any]]) -> list[Trial]:
    """Return every combination of values, in their order; one trial without a name for no choices."""
    flags = [flag for flag in SWEEPABLE if flag in choices]
    combinations = itertools.product(*(choices[flag] for flag in flags))
    return [Trial(_name(values), values) for values in (dict(zip(flags, row, strict=True)) for row in combinations)]


def ranking(results: Sequence[TrialResult]) -> list[int]:
    """Return indices, best first: by validation accuracy, then by cross-entropy, then in the order of the trials."""
    return sorted(range(len(results)), key=lambda i: (-results[i].accuracy, results[i].cross_entropy, i))


def table(results: Sequence[TrialResult]) -> list[str]:
    """Return the lines of a table of trials, best first."""
    width = max(len("run"), *(len(result.name) for result in results))
    head = f"{'run':<{width}}  validation  95% interval       cross entropy    time    size"
    rows = [
        f"{r.name:<{width}}  {r.accuracy:>10.1%}  {r.interval.low:>6.1%} to {r.interval.high:>6.1%}  "
        f"{r.cross_entropy:>13.4f}  {r.seconds:>4.1f} s  {r.size / 1e6:>4.1f} MB"
        for r in (results[index] for index in ranking(results))
    ]
    return [head, *rows]


def _name(values: Mapping[str, Any]) -> str:
    return "_".join(f"{SWEEPABLE[flag]}{_text(value)}" for flag, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "0"
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in str(value))
