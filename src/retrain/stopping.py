"""When a training that goes on for minutes ends: after its steps, when its time is over, or when somebody asks."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace


def _watch_nothing(step: int, progress: float) -> None:
    """Show a training to nobody."""


@dataclass(frozen=True)
class Stopping:
    """What may end a training besides its last step.

    `deadline` is a moment of `time.monotonic()`, None for none: a training that has one goes on until then, however
    many steps that takes. Setting `asked` ends it after the step that it is at. `watch` gets the steps that are done
    and how much of the training that is, whenever the training looks, so that a display moves between evaluations.
    """

    deadline: float | None = None
    asked: threading.Event = field(default_factory=threading.Event)
    watch: Callable[[int, float], None] = _watch_nothing

    def earlier(self, seconds: float) -> "Stopping":
        """Return the same with an earlier deadline, where there is one."""
        return self if self.deadline is None else replace(self, deadline=self.deadline - seconds)

    def progress(self, began: float, step: int, steps: int) -> float:
        """Return how much of a training is done, 0 to 1, for its schedule and its end.

        Args:
            began: When its first step began, by `time.monotonic()`.
            step: Steps that are done.
            steps: Steps of a training without a deadline.
        """
        if self.asked.is_set():
            return 1.0
        done = min(1.0, step / steps) if self.deadline is None else share_of_time(began, self.deadline)
        self.watch(step, done)
        return done


def is_over(deadline: float | None) -> bool:
    """Return whether a moment of `time.monotonic()` is over; None never is."""
    return deadline is not None and time.monotonic() >= deadline


def share_of_time(began: float, deadline: float) -> float:
    """Return how much of the time between two moments of `time.monotonic()` is over, 0 to 1."""
    now = time.monotonic()
    return 1.0 if now >= deadline else (now - began) / (deadline - began)
