"""What a page says of a run that is no part of its report: it differs between equal runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrain.evaluation.metrics import Interval


@dataclass(frozen=True)
class TrialFigures:
    """One combination of a sweep on the validation photos, as in `sweep.TrialResult`; NaN where it failed."""

    name: str
    accuracy: float
    cross_entropy: float
    interval: Interval
    seconds: float
    size: int


@dataclass(frozen=True)
class RunFacts:
    """When a run was, how long it took, and by which words it is done again.

    `date` is local time, ISO 8601. `network` says the backbone's size in words. `kept_step` is the step whose weights
    were kept, None where that is the last one. `trials` are those of a sweep, best first, of which the first was kept.
    """

    date: str
    seconds: float
    command: Sequence[str]
    network: str
    kept_step: int | None = None
    trials: Sequence[TrialFigures] = ()
