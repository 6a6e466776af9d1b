"""What was measured, as a file: distributions of single times, and means of what the driver does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from retrain.bottlenecks.cluster.shards import PHOTOS
from retrain.errors import RetrainError
from retrain.storage.opening import CONCURRENT

BATCH, READERS, AHEAD = 128, 2, 4  # how retrain/bottlenecks/photos.py reads: photos, threads, batches ahead
REQUESTS = 3  # of a worker for a shard, beside those for photos: is it committed, its part, its commit


@dataclass(frozen=True)
class Figures:
    """Seconds of the steps of a computation on a cluster, by the clock, or of a core, which others cannot take away.

    Attributes:
        reading: By the clock, of single photos from a server on this machine.
        handling: Of a core, for reading a photo.
        computing: Of a core, for decoding a photo and running the network; of single photos.
        committing: By the clock, of a part and its commit, and of the look whether there is one.
        opening: By the clock, until a worker works.
        answer: By the clock, of waiting for a page of a listing.
        page: Of a core, for what the driver does with a page.
        cut: Of a core, for cutting a shard and handing it out.
        merge: Of a core, for merging a commit.
    """

    reading: list[float]
    handling: float
    computing: list[float]
    committing: list[float]
    opening: float
    answer: float
    page: float
    cut: float
    merge: float

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Return the figures in a file.

        Raises:
            RetrainError: It cannot be read, or holds something else.
        """
        try:
            return cls(**json.loads(path.read_text())["figures"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RetrainError(
                f"{path} holds no figures of scripts.scale. Measure them: leave --figures out."
            ) from error


def draw_shards(
    figures: Figures, count: int, cores: int, rng: np.random.Generator, round_trip: float = 0.0
) -> np.ndarray:
    """Return the seconds float64 [count] of whole shards on a worker, drawn from what was measured.

    As in `retrain.bottlenecks.photos`, some threads read batches in their order, not too far ahead of the one that is
    computed; meanwhile the worker's cores compute. Each request takes `round_trip` seconds more than on this machine.
    """
    computing, waiting = np.array(figures.computing, np.float32), np.array(figures.reading, np.float32) + round_trip
    free, done = np.zeros((READERS, count)), np.zeros(count)
    begun: list[np.ndarray] = []
    for number, start in enumerate(range(0, PHOTOS, BATCH)):
        photos = min(BATCH, PHOTOS - start)
        free.sort(axis=0)
        asked = np.maximum(free[0], begun[number - AHEAD]) if number >= AHEAD else free[0]
        turns = waiting[rng.integers(len(waiting), size=(count, -(-photos // CONCURRENT), CONCURRENT))]
        free[0] = asked + turns.sum(axis=1).max(axis=1)
        begun.append(np.maximum(done, free[0]))
        drawn = computing[rng.integers(len(computing), size=(count, photos))].sum(axis=1)
        done = begun[-1] + (drawn + photos * figures.handling) / cores
    return done + rng.choice(np.array(figures.committing), count) + REQUESTS * round_trip
