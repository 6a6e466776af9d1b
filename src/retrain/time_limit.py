"""`--time_limit`: when trainings must end so that the command, all that comes after them included, ends in time.

How long that takes is estimated from what this very run measured: the time that TensorFlow took to start, and the time
of a photo in the network. The factors were measured on networks of 0.8 to 24 million parameters, and rounded up.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import compute_now
from retrain.data.split import Split
from retrain.data.variants import Variant
from retrain.formats.table import EXPORTS
from retrain.stopping import is_over

LEAST_SECONDS = 2.0  # for the last layer, whatever is left: a head of some use takes that
_TENSORFLOW = 4.0  # seconds of its start, at least
_PROBES, _LONG = (4, 32), 1.0  # photos of a short measurement, and of another one where that took less than a second
_CLOSING = 2.0  # seconds for report, records and the end of the process

# In starts of TensorFlow: to freeze a network, to check the written graph and end, to convert and start a format.
_FREEZING, _COMPARING, _EXPORTING = 0.6, 0.75, 2.5
_PER_MEGABYTE = 0.02  # starts of TensorFlow more to freeze or to export one
_BATCH, _PASSES = 100, 2.5  # photos of the last step, which is slower; times that test photos go through the network
_CALIBRATING = 1400  # 200 photos go through all layers of a network that 8-bit numbers are chosen for


@dataclass(frozen=True)
class Reserve:
    """The seconds that are kept for what comes after the last step: of each training, and once at the end."""

    each: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class TimeLimit:
    """The moment of `time.monotonic()` at which a command should have ended, infinity for none.

    `tensorflow` are the seconds that TensorFlow took to start, 0 where it was not started, or had been before.
    """

    end: float = math.inf
    tensorflow: float = 0.0

    @classmethod
    def of(cls, seconds: float | None, began: float | None) -> "TimeLimit":
        """Return the limit of a command that began at a moment, None for now; no seconds are no limit."""
        return cls() if seconds is None else cls((time.monotonic() if began is None else began) + seconds)

    @property
    def is_set(self) -> bool:
        """Return whether there is one."""
        return self.end < math.inf

    def reserve(
        self, prepared: Iterable[PreparedDataset], *, is_tuned: bool, exports: Sequence[str], tests: int
    ) -> Reserve:
        """Return the time to keep for what comes after trainings, on the slowest of some networks.

        Args:
            prepared: The photos with their networks.
            is_tuned: Whether the networks are fine-tuned: then they are frozen anew, and test photos go through them.
            exports: Formats that are written besides.
            tests: Photos of the final test.
        """
        start, reserve = max(self.tensorflow, _TENSORFLOW), Reserve(end=_CLOSING)
        if not self.is_set or not (is_tuned or exports):
            return reserve
        for each in prepared:
            photo, own = seconds_per_photo(each), 0.0
            larger = _PER_MEGABYTE * each.backbone.graph.stat().st_size / 1e6
            once = (_EXPORTING + larger) * start
            end = _CLOSING + sum(_exporting(name, tests, once, photo) for name in ("", *exports) if exports)
            if is_tuned:
                passes = 2 * len(each.variants.members[Split.VALIDATION]) + _BATCH
                own = (_FREEZING + larger) * start + passes * photo
                end += _COMPARING * start + _PASSES * tests * photo
            reserve = Reserve(max(reserve.each, own), max(reserve.end, end))
        return reserve

    def deadline(self, reserve: Reserve, *, trainings: int) -> float | None:
        """Return when the first of so many trainings that are left ends if all get the same time; None for no limit."""
        if not self.is_set:
            return None
        now = time.monotonic()
        return now + (self.end - reserve.end - now) / trainings - reserve.each

    def is_over(self, reserve: Reserve) -> bool:
        """Return whether nothing is left for a training."""
        return is_over(self.end - reserve.end - reserve.each)

    def exceeded(self) -> float:
        """Return by how many seconds it is exceeded, less than 0 where it is not."""
        return time.monotonic() - self.end


def of_the_head(deadline: float | None, *, is_tuned: bool, folds: int = 0) -> float | None:
    """Return the deadline of a head's training.

    It shares the time with a fine-tuning that follows it, and with the heads of cross-validation, which take as long.
    """
    if deadline is None:
        return None
    now = time.monotonic()
    return at_least(now + (deadline - now) / (1 + is_tuned + folds))


def at_least(deadline: float | None) -> float | None:
    """Return a deadline of a head's training, or a later one that leaves it `LEAST_SECONDS`; None for none."""
    return None if deadline is None else max(deadline, time.monotonic() + LEAST_SECONDS)


def seconds_per_photo(prepared: PreparedDataset) -> float:
    """Return how long a photo takes where many are read, decoded and run, measured on a few of them."""
    paths, seconds, count = [example.path for example in prepared.dataset.examples], 0.0, 1
    extractor = replace(prepared.extractor, runner=prepared.runner)
    for most in _PROBES:
        if seconds < _LONG:
            chosen = paths[:: -(-len(paths) // most)]
            began = time.monotonic()
            compute_now([Variant(path) for path in chosen], extractor)
            seconds, count = time.monotonic() - began, len(chosen)
    return seconds / count


def _exporting(name: str, tests: int, once: float, photo: float) -> float:
    """Return the seconds to write a format and score test photos with it in a fresh process; "" is the graph.

    Args:
        name: Of the format.
        tests: Test photos.
        once: Seconds to write and start a model, whatever its format.
        photo: Seconds of a photo.
    """
    runs = 3 if name and EXPORTS[name].decodes else 1  # such a model is slower to write, and is scored twice
    return runs * (once + 2 * tests * photo) + ("int8" in name) * _CALIBRATING * photo
