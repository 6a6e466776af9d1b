"""What the trainings of one run share: where they print, what is closed at the end, and what may end them early."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from retrain.history import Evaluation
from retrain.stopping import Stopping
from retrain.terminal import Terminal

# Sets an event at a first Ctrl-C while it is open, which then interrupts nothing.
Heed = Callable[[threading.Event], AbstractContextManager[None]]


def heed_nothing(asked: threading.Event) -> AbstractContextManager[None]:
    """Leave Ctrl-C what it is: a program that imports this package keeps its signals."""
    return nullcontext()


@dataclass(frozen=True)
class Session:
    """What the trainings of one run share.

    `opened` closes stores and removes temporary folders at the end of the run. `strategy` is the
    tf.distribute.Strategy of fine-tunings, None for none. `stopping` may end the training that comes next.
    """

    terminal: Terminal
    opened: ExitStack
    strategy: Any = None
    stopping: Stopping = field(default_factory=Stopping)
    heed: Heed = heed_nothing

    @contextmanager
    def stoppable(self, show: Callable[[Evaluation], None]) -> Iterator[Callable[[Evaluation], None]]:
        """Give a function that shows evaluations of a fine-tuning; from the first on, a first Ctrl-C asks it to end.

        Before that, the frozen layers are computed, and Ctrl-C interrupts as it does anywhere.
        """
        with ExitStack() as listening:
            is_heeded = False

            def evaluation(row: Evaluation) -> None:
                nonlocal is_heeded
                if not is_heeded:
                    is_heeded = True
                    listening.enter_context(self.heed(self.stopping.asked))
                show(row)

            yield evaluation
