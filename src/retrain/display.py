"""Shows a training while it runs, on TensorBoard and on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from retrain.evaluation.tensorboard import TRAIN, VALIDATION, Summaries, summarise, summarise_evaluations
from retrain.history import ChunkResult, Evaluation
from retrain.terminal import Terminal


@dataclass(frozen=True)
class FineTuningDisplay:
    """Shows a fine-tuning: `evaluation` each evaluation, `step` how many steps are done, and how much that is."""

    evaluation: Callable[[Evaluation], None]
    step: Callable[[int, float], None]


@dataclass(frozen=True)
class Display:
    """Shows a training.

    `listed` says whether its evaluations are lines where there is no terminal: those of one of many trials are not.
    """

    summaries: Summaries
    terminal: Terminal
    listed: bool

    @contextmanager
    def head(self, steps: int) -> Iterator[Callable[[ChunkResult], None]]:
        """Give a function that shows each chunk of the head's training of so many steps."""
        with self.terminal.training(steps, listed=self.listed) as show:

            def chunk(result: ChunkResult) -> None:
                summarise(self.summaries, result)
                for row in result.evaluations:
                    show(row)

            yield chunk

    @contextmanager
    def fine_tuning(self, steps: int, after: int) -> Iterator[FineTuningDisplay]:
        """Give what shows a fine-tuning of so many steps, 0 for unknown, that follows `after` steps of the head's."""
        with self.terminal.fine_tuning(steps and after + steps, listed=self.listed) as line:

            def evaluation(row: Evaluation) -> None:
                row = later(row, after)
                summarise_evaluations(self.summaries, TRAIN, [row])
                summarise_evaluations(self.summaries, VALIDATION, [row])
                line.evaluation(row)

            yield FineTuningDisplay(evaluation, lambda step, progress: line.step(after + step, progress))


def later(row: Evaluation, steps: int) -> Evaluation:
    """Return an evaluation of the fine-tuning with its step counted from the start of the head's training."""
    return replace(row, step=steps + row.step)
