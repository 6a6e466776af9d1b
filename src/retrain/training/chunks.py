"""A training divided into compiled calls, and the bottlenecks that each of them needs.

All draws are made before the first step (`sampling`), so that the bottlenecks that will be needed are known, and are
gathered in few passes.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.head import Standardisation
from retrain.training.sampling import SamplingPlan

SHARED_BYTES = 64 * 2**20  # as many bottlenecks as this are gathered once for all steps
CHUNK_BYTES = 28 * 2**20  # of more, so many at a time; blocks from 32 MB on come fresh from the kernel, page by page
_REPORTS = 20  # compiled calls a training is divided into


@dataclass(frozen=True)
class Chunk:
    """The steps of one compiled call.

    `drawn` int64 [S, B] and `held_out` int64 [E or 1, V] are the examples of the steps and of the evaluations, each
    of which ends before step `ends`. Either all parts share the bottlenecks of `examples`, standardised, and `batches`
    and `validation` are places in it; or `examples` is None, and raw bottlenecks come in the order of the steps.
    """

    first: int
    drawn: np.ndarray
    held_out: np.ndarray
    ends: np.ndarray
    examples: np.ndarray | None
    batches: np.ndarray
    validation: np.ndarray


def into_chunks(drawn: SamplingPlan, *, row_bytes: int) -> list[Chunk]:
    """Return the training in parts of whole evaluations.

    Where all bottlenecks that are needed fit `SHARED_BYTES`, the parts share them; otherwise each needs about
    `PART_BYTES` of its own, or what one evaluation takes.
    """
    examples: np.ndarray | None = _distinct(drawn.batches, drawn.validation)
    calls = _REPORTS
    if examples is not None and len(examples) * row_bytes > SHARED_BYTES:
        examples = None
        calls = max(_REPORTS, -(-(drawn.batches.size + drawn.validation.size) * row_bytes // CHUNK_BYTES))
    each = max(1, len(drawn.evaluated) // calls)
    count, stops = len(drawn.evaluated), np.searchsorted(drawn.evaluated, drawn.stops) + 1
    edges = np.unique(np.concatenate([np.arange(0, count, each), stops, [count]])).tolist()
    parts = []
    for start, end in itertools.pairwise(edges):
        evaluated = drawn.evaluated[start:end]
        first = 0 if start == 0 else int(drawn.evaluated[start - 1]) + 1
        steps = drawn.batches[first : int(evaluated[-1]) + 1]
        held_out = drawn.validation[start:end] if len(drawn.validation) > 1 else drawn.validation
        parts.append(
            Chunk(
                first,
                steps,
                held_out,
                (evaluated - first + 1).astype(np.int32),
                examples,
                _places(examples, steps),
                _places(examples, held_out),
            )
        )
    return parts


def _distinct(*drawn: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of arrays of small whole numbers, without sorting millions of them."""
    seen = np.zeros(1 + max((int(array.max()) for array in drawn if array.size), default=-1), bool)
    for array in drawn:
        seen[array] = True
    return np.flatnonzero(seen)


def _places(examples: np.ndarray | None, drawn: np.ndarray) -> np.ndarray:
    """Return where `drawn` stands in sorted `examples`, int32; without them nothing needs a place."""
    if examples is None:
        return np.zeros((len(drawn), 0), np.int32)
    return np.searchsorted(examples, drawn).astype(np.int32)


def with_bottlenecks(
    parts: Sequence[Chunk], gather: Gather, scale: Standardisation
) -> Iterator[tuple[Chunk, Any, Any]]:
    """Yield each part with the bottlenecks of its steps and of its evaluations; the next are gathered meanwhile."""
    import tensorflow as tf

    def tensor(examples: np.ndarray) -> Any:
        vectors = gather(examples.ravel())
        return tf.constant(vectors.reshape(*examples.shape, vectors.shape[1]))

    if parts[0].examples is not None:
        vectors = tf.constant(scale.standardised(gather(parts[0].examples)))
        yield from ((part, vectors, vectors) for part in parts)
        return
    same = tensor(parts[0].held_out) if parts[0].held_out is parts[-1].held_out else None
    with ThreadPoolExecutor(1) as ahead:

        def submit(part: Chunk) -> Future[tuple[Any, Any]]:
            return ahead.submit(lambda: (tensor(part.drawn), tensor(part.held_out) if same is None else same))

        waiting = submit(parts[0])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            ready = waiting.result()
            if following is not None:
                waiting = submit(following)
            yield part, *ready
