"""Reads bottlenecks: from the store, or computed when they are asked for."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from retrain import workers
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import NO_ROW, FeatureExtractor
from retrain.bottlenecks.photos import UNREADABLE, Photo, read_ahead
from retrain.bottlenecks.store import DamagedVectorsError, Store
from retrain.data import properties
from retrain.data.variants import Variant, VariantColumns
from retrain.errors import StoreError

Gather = Callable[[np.ndarray], np.ndarray]  # int64 [n] indices of variants -> float32 [n, D]
_MEASURED_AT_ONCE = 1000  # photos, whose properties are then kept
_WAITING = 64  # photos that may be measured ahead


class BottleneckReader:
    """Reads bottlenecks of variants: int64 [n] indices -> float32 [n, D].

    Two kinds of misses have two policies. A stored vector that is damaged is computed again and stored. A variant
    without a row in the store is computed at every read and never stored.
    """

    def __init__(
        self, variants: Sequence[Variant], rows: np.ndarray, *, extractor: FeatureExtractor, store: Store
    ) -> None:
        """Read variants with these rows of the store, int64 [V], `NO_ROW` for none; `extractor` computes misses."""
        self._variants, self._rows = variants, rows.copy()
        self._extractor, self._store = extractor, store

    @classmethod
    def filled(
        cls,
        variants: Sequence[Variant],
        indices: np.ndarray,
        *,
        extractor: FeatureExtractor,
        store: Store,
        advance: Callable[[int, int], None],
    ) -> Self:
        """Return a reader of variants, those at the indices int64 [n] computed and stored where the store lacks them.

        The variants of one photo must be side by side. `advance` is called with those computed and those to compute.

        Raises:
            StoreError: A photo cannot be read any more.
        """
        wanted = [variants[index] for index in indices.tolist()]
        known, todo = computing.missing(wanted, extractor=extractor, store=store)
        result = computing.compute(wanted, todo, extractor=extractor, store=store, advance=advance)
        for path, reason in (known.rejected | result.rejected).items():
            raise StoreError(f"{path} cannot be read any more: {reason}. Run again.")
        rows = np.full(len(variants), NO_ROW, np.int64)
        rows[indices] = np.maximum(known.rows, result.rows)
        return cls(variants, rows, extractor=extractor, store=store)

    def with_copies(self, indices: np.ndarray, copies: Sequence[str]) -> Self:
        """Return a reader of the same variants and, behind them, of one copy of the photo at each index, int64 [n].

        The n names of the copies are as in `Variant`; the copies are computed at every read.
        """
        paths = [variant.path for variant in self._variants]
        variants = VariantColumns(
            [*paths, *(paths[index] for index in indices.tolist())],
            [*(variant.copy for variant in self._variants), *copies],
        )
        rows = np.concatenate([self._rows, np.full(len(indices), NO_ROW, np.int64)])
        return type(self)(variants, rows, extractor=self._extractor, store=self._store)

    def of(self, variants: Sequence[Variant], advance: Callable[[int, int], None]) -> Self:
        """Return a reader of other variants of these photos, all of them stored, as by `filled`.

        Raises:
            StoreError: A photo cannot be read any more.
        """
        indices = np.arange(len(variants))
        return self.filled(variants, indices, extractor=self._extractor, store=self._store, advance=advance)

    def keys(self, indices: np.ndarray, *, beside: np.ndarray) -> list[bytes]:
        """Return the store's keys of variants, in no order, but for those that variants `beside` them have, too.

        Both are indices, int64 [n] and [m].
        """
        rows = self._rows[indices]
        return self._store.keys(np.setdiff1d(rows[rows != NO_ROW], self._rows[beside]) if len(rows) else rows)

    def checksums(self, indices: np.ndarray) -> np.ndarray:
        """Return the checksums uint32 [n] of the bottlenecks of variants, int64 [n] indices, 0 for those not stored."""
        return self._store.checksums(self._rows[indices])

    def key_of_each(self, indices: np.ndarray) -> list[bytes | None]:
        """Return the store's key of each variant, int64 [n] indices; None for one that is not stored."""
        rows = self._rows[indices]
        keys = self._store.keys_by_row(np.unique(rows[rows != NO_ROW]))
        return [keys.get(row) for row in rows.tolist()]

    def stored_properties(self, indices: np.ndarray) -> np.ndarray | None:
        """Return what `properties` returns where the store knows that of all photos, None where one must be read.

        Raises:
            StoreError: The store cannot be read.
        """
        rows = self._rows[indices]
        found = self._store.properties(rows)
        is_unknown = bool(((found["width"] == 0) | (rows == NO_ROW)).any())
        return None if is_unknown else properties.derived(found)

    def properties(self, indices: np.ndarray, advance: Callable[[int, int], None]) -> np.ndarray:
        """Return what is known of photos beside their bottlenecks, int64 [n] indices, `data.properties.DTYPE` [n].

        Photos of which the store knows nothing, as in stores of earlier versions, are read once more, and it is kept;
        zeros stand for those that cannot be read, or are others now. `advance` is called with those read and those to
        read.

        Raises:
            StoreError: The store cannot be read or written.
        """
        rows = self._rows[indices]
        found = self._store.properties(rows)
        unknown = np.flatnonzero((found["width"] == 0) & (rows != NO_ROW))
        keys = self.key_of_each(indices[unknown])
        paths = [self._variants[index].path for index in indices[unknown].tolist()]
        for begin in range(0, len(unknown), _MEASURED_AT_ONCE):
            some = slice(begin, begin + _MEASURED_AT_ONCE)
            records = measured(paths[some], keys[some], self._extractor)
            there = [place for place, record in zip(unknown[some].tolist(), records, strict=True) if record]
            new = [record for record in records if record]
            found[there] = np.frombuffer(b"".join(new), properties.RECORD)
            self._store.put_properties(rows[there], new)
            advance(begin + len(records), len(unknown))
        return properties.derived(found)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """Return the bottlenecks float32 [n, D] of variants, int64 [n] indices.

        Raises:
            StoreError: A photo whose bottleneck must be computed cannot be read any more.
        """
        stored = self._rows[indices] != NO_ROW
        if stored.all():
            return self._read(indices)
        computed = compute_now([self._variants[index] for index in indices[~stored].tolist()], self._extractor)
        vectors = np.empty((len(indices), computed.shape[1]), np.float32)
        vectors[~stored], vectors[stored] = computed, self._read(indices[stored])
        return vectors

    def _read(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._store.read(self._rows[indices])
        except DamagedVectorsError as damage:
            self._repair(damage.rows)
        return self._store.read(self._rows[indices])

    def _repair(self, rows: np.ndarray) -> None:
        self._store.forget(rows)
        todo = np.flatnonzero(np.isin(self._rows, rows)).tolist()
        result = computing.compute_here(self._variants, todo, extractor=self._extractor, store=self._store)
        if result.rejected:
            path, reason = next(iter(result.rejected.items()))
            raise StoreError(f"the bottleneck of {path} is damaged and its image cannot be read: {reason}. Run again.")
        self._rows[todo] = result.rows[todo]


def measured(paths: Sequence[str], keys: Sequence[bytes | None], extractor: FeatureExtractor) -> list[bytes | None]:
    """Return a record, `data.properties.RECORD`, of each photo, None where it cannot be read, or has another key."""

    def measure(job: tuple[bytes | None, Callable[[], Photo]]) -> bytes | None:
        key, photo = job[0], job[1]()
        if key != photo.content[: len(key or b"")]:
            return None
        try:
            return extractor.pixel_maker(photo).described()[1]
        except UNREADABLE:
            return None

    read = read_ahead(extractor.image_dir, zip(keys, paths, strict=True))
    threads = min(workers.cores(), max(1, len(paths)))
    return list(workers.map_in_order(lambda: measure, read, threads=threads, waiting=_WAITING))


def compute_now(variants: Sequence[Variant], extractor: FeatureExtractor) -> np.ndarray:
    """Return the bottlenecks float32 [n, D] of variants without storing them.

    Raises:
        StoreError: A photo cannot be read any more.
    """
    vectors: dict[int, np.ndarray] = {}
    for results in computing.compute_results(variants, range(len(variants)), extractor, find=lambda key: None):
        for result in results:
            if result.entry.vector is None:
                path = variants[result.position].path
                raise StoreError(f"{path} cannot be read any more: {result.entry.reason}. Run again.")
            vectors[result.position] = result.entry.vector
    return np.stack([vectors[index] for index in range(len(variants))])
