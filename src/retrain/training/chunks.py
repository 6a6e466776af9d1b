"""A training divided into chunks of steps, and the bottlenecks that each of them needs.

All draws are made before the first step (`sampling`), so that the bottlenecks that will be needed are known, and are
gathered in few passes.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.head import Standardisation
from retrain.training.sampling import SamplingPlan

SHARED_BYTES = 64 * 2**20  # as many bottlenecks as this are gathered once for all steps
CHUNK_BYTES = 28 * 2**20  # of more, so many at a time; blocks from 32 MB on come fresh from the kernel, page by page
_CHUNKS = 20  # at least so many, so that reports come in time


@dataclass(frozen=True)
class Chunk:
    """Some steps of a training.

    `batches` int64 [S, B] and `validation` int64 [E or 1, V] are the examples of the steps and of the evaluations;
    each evaluation comes after as many steps of the chunk as `evaluated_after` int32 [E] says. Without evaluations
    `validation` is [1, 0]. Either all chunks share
    the bottlenecks of `examples`, standardised, in which `batch_rows` and `validation_rows` are the places of those
    examples; or `examples` is None, and raw bottlenecks come in the order of the steps.
    """

    first_step: int
    batches: np.ndarray
    validation: np.ndarray
    evaluated_after: np.ndarray
    examples: np.ndarray | None
    batch_rows: np.ndarray
    validation_rows: np.ndarray

    @property
    def last_step(self) -> int:
        """Return the last of its steps."""
        return self.first_step + len(self.batches) - 1


def into_chunks(samples: SamplingPlan, *, row_bytes: int) -> list[Chunk]:
    """Return the training in chunks that end with an evaluation.

    Where all bottlenecks that are needed fit `SHARED_BYTES`, the chunks share them; otherwise each needs about
    `CHUNK_BYTES` of its own. Where the steps to an evaluation need more, there are chunks without one on the way.
    """
    examples: np.ndarray | None = _distinct(samples.batches, samples.validation)
    chunks = _CHUNKS
    most = steps = len(samples.batches)
    if examples is not None and len(examples) * row_bytes > SHARED_BYTES:
        examples = None
        chunks = max(_CHUNKS, -(-(samples.batches.size + samples.validation.size) * row_bytes // CHUNK_BYTES))
        most = max(1, CHUNK_BYTES // (row_bytes * samples.batches.shape[1]))
    count = len(samples.evaluation_steps)
    checkpoints = np.searchsorted(samples.evaluation_steps, samples.checkpoint_steps) + 1
    edges = np.unique(np.concatenate([np.arange(0, count, max(1, count // chunks)), checkpoints, [count]]))
    ends = [0, *(samples.evaluation_steps[edges[1:] - 1] + 1).tolist()]
    starts = [step for start, end in itertools.pairwise(ends) for step in range(start, end, most)]
    return [_chunk(samples, start, end, examples) for start, end in itertools.pairwise([*starts, steps])]


def _chunk(samples: SamplingPlan, first: int, end: int, examples: np.ndarray | None) -> Chunk:
    """Return the steps from one to another."""
    evaluated = slice(*np.searchsorted(samples.evaluation_steps, (first, end)).tolist())
    evaluations, batches = samples.evaluation_steps[evaluated], samples.batches[first:end]
    validation = samples.validation
    if not len(evaluations):
        validation = validation[:1, :0]
    elif len(validation) > 1:
        validation = validation[evaluated]
    after = (evaluations - first + 1).astype(np.int32)
    return Chunk(first, batches, validation, after, examples, _rows(examples, batches), _rows(examples, validation))


def _distinct(*indices: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of arrays of small whole numbers, without sorting millions of them."""
    seen = np.zeros(1 + max((int(array.max()) for array in indices if array.size), default=-1), bool)
    for array in indices:
        seen[array] = True
    return np.flatnonzero(seen)


def _rows(examples: np.ndarray | None, indices: np.ndarray) -> np.ndarray:
    """Return the places of indices in sorted `examples`, int32; without examples there are none."""
    if examples is None:
        return np.zeros((len(indices), 0), np.int32)
    return np.searchsorted(examples, indices).astype(np.int32)


def with_bottlenecks(
    chunks: Sequence[Chunk], gather: Gather, scale: Standardisation, convert: Callable[[np.ndarray], Any]
) -> Iterator[tuple[Chunk, Any, Any]]:
    """Yield each chunk with the bottlenecks of its steps and of its evaluations; the next are gathered meanwhile.

    Args:
        chunks: All chunks of a training.
        gather: Reads bottlenecks.
        scale: Standardises bottlenecks that chunks share.
        convert: Makes of an array what the training computes with, once for each array.
    """

    def read(examples: np.ndarray) -> Any:
        vectors = gather(examples.ravel())
        return convert(vectors.reshape(*examples.shape, vectors.shape[1]))

    if chunks[0].examples is not None:
        vectors = convert(scale.apply(gather(chunks[0].examples)))
        yield from ((chunk, vectors, vectors) for chunk in chunks)
        return
    same = read(chunks[0].validation) if chunks[0].validation is chunks[-1].validation else None
    with ThreadPoolExecutor(1) as pool:

        def held_out(chunk: Chunk) -> Any:
            return same if same is not None and len(chunk.evaluated_after) else read(chunk.validation)

        def submit(chunk: Chunk) -> Future[tuple[Any, Any]]:
            return pool.submit(lambda: (read(chunk.batches), held_out(chunk)))

        pending = submit(chunks[0])
        for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
            ready = pending.result()
            if following is not None:
                pending = submit(following)
            yield chunk, *ready
