"""Reads bottlenecks: those that are stored, those that are made when they are asked for, and both together."""

from collections.abc import Callable, Sequence

import numpy as np

from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import DamagedVectorsError, Store
from retrain.data import variants
from retrain.errors import StoreError

Gather = Callable[[np.ndarray], np.ndarray]  # int64 [n] indices of examples -> float32 [n, D]


class Reader:
    """Reads bottlenecks of pictures from a store, and computes damaged ones again."""

    def __init__(self, names: Sequence[str], rows: np.ndarray, *, source: FeatureExtractor, store: Store) -> None:
        """Read the pictures whose names and rows (int64 [N]) these are; `source` mends damage."""
        self._names, self._rows = names, rows.copy()
        self._source, self._store = source, store

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [n, D] of pictures, int64 [n] indices.

        Raises:
            StoreError: A damaged one could not be computed again.
        """
        try:
            return self._store.read(self._rows[pictures])
        except DamagedVectorsError as damage:
            self._repair(damage.rows)
        return self._store.read(self._rows[pictures])

    def _repair(self, rows: np.ndarray) -> None:
        self._store.forget(rows)
        todo = np.flatnonzero(np.isin(self._rows, rows)).tolist()
        again = computing.compute(self._names, todo, source=self._source, store=self._store)
        if again.rejected:
            path, reason = next(iter(again.rejected.items()))
            raise StoreError(f"the bottleneck of {path} was damaged and its image is gone: {reason}. Run again.")
        self._rows[todo] = again.rows[todo]


class LiveReader:
    """Makes bottlenecks of pictures when they are asked for, and stores none."""

    def __init__(self, names: Sequence[str], source: FeatureExtractor) -> None:
        """Make those of the pictures whose names these are."""
        self._names, self._source = names, source

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [n, D] of pictures, int64 [n] indices.

        Raises:
            StoreError: A photo cannot be read any more.
        """
        names = [self._names[picture] for picture in pictures.tolist()]
        vectors: dict[int, np.ndarray] = {}
        for outcomes in computing.compute_results(names, range(len(names)), self._source, find=lambda key: None):
            for outcome in outcomes:
                if outcome.entry.vector is None:
                    gone = variants.photo_of(names[outcome.index])
                    raise StoreError(f"{gone} cannot be read any more: {outcome.entry.reason}. Run again.")
                vectors[outcome.index] = outcome.entry.vector
        return np.stack([vectors[index] for index in range(len(names))])


class FreshReader:
    """Reads bottlenecks of pictures, and makes those of pictures that are drawn once and never stored.

    Indices from `len(names)` on stand for the draws of a training: each is a new copy of the photo drawn.
    """

    def __init__(
        self,
        reader: Reader,
        names: Sequence[str],
        drawn: np.ndarray,
        *,
        source: FeatureExtractor,
        copy: Callable[[int], str] = lambda draw: f"draw {draw}",
    ) -> None:
        """Read stored pictures by `reader`, and make the others.

        Args:
            reader: Reads the pictures `names`.
            names: As in `views`.
            drawn: int64 [n], indices of `names` in the order of the draws.
            source: Makes pictures.
            copy: Which copy a draw is, a new one by default.
        """
        self._reader, self._names, self._drawn, self._source, self._copy = reader, names, drawn, source, copy

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [n, D] of pictures and draws, int64 [n].

        Raises:
            StoreError: A photo cannot be read any more.
        """
        fresh = pictures >= len(self._names)
        if not fresh.any():
            return self._reader(pictures)
        draws = (pictures[fresh] - len(self._names)).tolist()
        names = [self._source.copier.name(self._names[self._drawn[draw]], self._copy(draw)) for draw in draws]
        made = LiveReader(names, self._source)(np.arange(len(names)))
        vectors = np.empty((len(pictures), made.shape[1]), np.float32)
        vectors[fresh] = made
        if not fresh.all():
            vectors[~fresh] = self._reader(pictures[~fresh])
        return vectors
