"""When a training that goes on for minutes ends: after its steps, when its time is over, or when somebody asks."""

import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stopping:
    """What may end a training besides its last step.

    `deadline` is a moment of `time.monotonic()`, None for none: a training that has one goes on until then, however
    many steps that takes. Setting `asked` ends it after the step that it is at.
    """

    deadline: float | None = None
    asked: threading.Event = field(default_factory=threading.Event)

    def progress(self, began: float, step: int, steps: int) -> float:
        """Return how much of a training is done, 0 to 1, for its schedule and its end.

        Args:
            began: When its first step began, by `time.monotonic()`.
            step: Steps that are done.
            steps: Steps of a training without a deadline.
        """
        if self.asked.is_set():
            return 1.0
        if self.deadline is None:
            return min(1.0, step / steps)
        return min(1.0, (time.monotonic() - began) / max(self.deadline - began, 1e-9))
