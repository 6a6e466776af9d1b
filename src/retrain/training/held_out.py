"""Validation on more photos than should lie in memory: read in blocks at each evaluation, and measured by the head."""

from dataclasses import dataclass, replace

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.head import Head
from retrain.training.gradient_descent import measure
from retrain.training.sampling import SamplingPlan

HELD_OUT_BYTES = 512 * 2**20  # of an evaluation's bottlenecks that are read once and kept
_AT_ONCE = 4096


@dataclass(frozen=True)
class HeldOut:
    """The validation examples of a training: `rows` int64 [E, V], or [1, V] for all of the evaluations after `steps`.

    `steps` int64 [E] are those that an evaluation follows.
    """

    rows: np.ndarray
    steps: np.ndarray

    @property
    def count(self) -> int:
        """Return the examples of each evaluation."""
        return int(self.rows.shape[1])

    def measure(self, head: Head, step: int, gather: Gather, labels: np.ndarray) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy of a head after a step; `labels` int64 [N] are those of all photos."""
        rows = self.rows[int(np.searchsorted(self.steps, step)) % len(self.rows)]
        sums = np.zeros(2)
        for start in range(0, len(rows), _AT_ONCE):
            block = rows[start : start + _AT_ONCE]
            with np.errstate(all="ignore"):  # weights that are not finite are the caller's to report
                sums += np.array(measure(head.logits(gather(block)), labels[block])) * len(block)
        accuracy, loss = (sums / len(rows)).tolist()
        return accuracy, loss


def apart(samples: SamplingPlan, *, row_bytes: int) -> tuple[SamplingPlan, HeldOut | None]:
    """Return samples without validation examples, and these, where their bottlenecks need too much memory.

    Each evaluation then ends a chunk, whose head can be measured. Otherwise the samples stay as they are.
    """
    if samples.validation.shape[1] * row_bytes <= HELD_OUT_BYTES:
        return samples, None
    held_out = HeldOut(samples.validation, samples.evaluation_steps)
    return replace(samples, validation=samples.validation[:1, :0], checkpoint_steps=samples.evaluation_steps), held_out
