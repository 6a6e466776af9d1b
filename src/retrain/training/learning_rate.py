"""Finds a learning rate by the validation photos: successive halving over a grid of rates."""

import time
from dataclasses import dataclass, replace

import numpy as np

from retrain.errors import TrainingError, plural
from retrain.history import Evaluation
from retrain.stopping import is_over
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe, TrainingPlan

RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_MOST_STEPS = 4000  # of a round: in longer trainings, the rates differ less
MOST_VALIDATION = 100_000  # photos that rates are compared on: more tell no more
_LOOKS = 20  # of an attempt at the time, which may end it


@dataclass(frozen=True)
class Attempt:
    """The last training with a rate: its steps and its evaluation on all validation photos, None if it diverged.

    `is_cut` says that its time was over before its last step.
    """

    rate: float
    steps: int
    evaluation: Evaluation | None
    is_cut: bool = False

    def __str__(self) -> str:
        """Return the rate and what it gave."""
        row = self.evaluation
        return f"{self.rate:g}: {f'{row.validation_accuracy:.1%}' if row else 'diverged'}"


def find(
    data: TrainingData, validation: np.ndarray, recipe: HeadRecipe, plan: TrainingPlan, deadline: float | None = None
) -> list[Attempt]:
    """Return an attempt for each of `RATES`, the best first; none if there is no time: few steps prefer large rates.

    All are trained for an eighth of the steps, the better half for a quarter, and the better half of those for half of
    them: a round takes as many steps as one training ("Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", Jamieson and Talwalkar, 2016). The better one is more accurate on all validation photos, or of equal
    ones has the smaller cross-entropy, or else the smaller rate.

    Args:
        data: As in `head_training.train`.
        validation: int64 [V], indices of the validation examples; of more than `MOST_VALIDATION`, so many are taken.
        recipe: The head and its optimizer; its rate is none of these.
        plan: Of the training that is to follow.
        deadline: When that must end, by `time.monotonic()`. A round takes a share of the time as it does of all steps,
            with fewer of them where they do not fit, but for the first round. None for as long as all steps take.

    Raises:
        TrainingError: There are no validation examples, or all rates diverged.
    """
    if not len(validation):
        raise TrainingError("--learning_rate auto needs validation images, and there are none.")
    if len(validation) > MOST_VALIDATION:  # names are in no order of content: evenly spaced ones are as good as drawn
        validation = validation[np.arange(MOST_VALIDATION) * len(validation) // MOST_VALIDATION]
    rates = list(RATES)
    ranked: list[Attempt] = []
    longest = min(plan.steps, _MOST_STEPS)
    ahead = float(len(rates).bit_length())  # trainings: one for each round, and the one that is to follow
    while len(rates) > 1:
        shorter = replace(plan, steps=max(1, longest // len(rates)))
        attempts = []
        for rate in rates:
            end = None if deadline is None else _after(1 / len(rates) / ahead, deadline)
            attempts.append(_attempt(data, validation, replace(recipe, learning_rate=rate), shorter, end))
            ahead -= 1 / len(rates)
            if attempts[-1].is_cut and len(rates) == len(RATES):
                return []
        attempts.sort(key=_rank, reverse=True)  # equal ones stay in order
        rates = [attempt.rate for attempt in attempts[: len(rates) // 2]]
        ranked = attempts + ranked[len(attempts) :]
    if ranked[0].evaluation is None:
        raise TrainingError(f"the training diverged at every learning rate from {RATES[0]:g} to {RATES[-1]:g}.")
    return ranked


def describe(attempts: list[Attempt]) -> str:
    """Return the line about a search, whose attempts are the best first."""
    best, *others = attempts
    row = best.evaluation
    which = "all " if row and row.validation_count < MOST_VALIDATION else ""
    measured = (
        f"{row.validation_accuracy:.1%} on {which}{plural(row.validation_count, 'validation photo')}" if row else ""
    )
    return f"Learning rate {best.rate:g}: {measured} after {plural(best.steps, 'step')} ({_by_length(others)})."


def _by_length(attempts: list[Attempt]) -> str:
    """Return what attempts gave, those of the same length together."""
    lengths = dict.fromkeys(attempt.steps for attempt in attempts)
    parts = ["; ".join(str(attempt) for attempt in attempts if attempt.steps == steps) for steps in lengths]
    return "; ".join(f"{part} after {steps}" for part, steps in zip(parts, lengths, strict=True))


def _after(share: float, deadline: float) -> float:
    """Return when a share of the time until a deadline will be over."""
    now = time.monotonic()
    return now + share * (deadline - now)


def _attempt(
    data: TrainingData, validation: np.ndarray, recipe: HeadRecipe, plan: TrainingPlan, deadline: float | None
) -> Attempt:
    """Return the outcome of a training of the plan's steps, or of as many as fit."""
    interval = plan.steps if deadline is None else max(1, plan.steps // _LOOKS)
    interval = interval if plan.patience is None else plan.eval_step_interval
    plan = replace(plan, validation_batch_size=-1, eval_step_interval=interval, checkpoint_every=0)
    samples = sampling.sample_training(data.labels, data.training, validation, plan)
    try:
        trained = head_training.train(data, samples, recipe, plan, deadline=deadline)
    except TrainingError:
        return Attempt(recipe.learning_rate, plan.steps, None)
    row = next(row for row in trained.history if row.step == trained.step)
    steps = trained.history[-1].step + 1
    return Attempt(recipe.learning_rate, steps, row, is_cut=steps < plan.steps and is_over(deadline))


def _rank(attempt: Attempt) -> tuple[float, float]:
    """Return what a better attempt has more of."""
    return attempt.evaluation.rank if attempt.evaluation else (-1.0, 0.0)
