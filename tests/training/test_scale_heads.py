"""Heads are trained from ten million vectors as from ten thousand: same draws, same memory."""

import numpy as np
import pytest
from scripts import scale_heads
from scripts.scale_heads import DIMENSION, VECTORS, Job

from retrain.bottlenecks import checksums
from retrain.training import head_training, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import HeadRecipe

MILLIONS, STEPS = 10_000_000, 40
PER_VECTOR = 10  # bytes, while batches are drawn: its label once more, and whether labels are in order


@pytest.fixture
def job(tmp_path):
    """A training on ten million vectors in a sparse file, 51 GB long."""
    made = Job(tmp_path / "store", MILLIONS, classes=10, steps=STEPS)
    try:
        scale_heads.sparse_store(made.folder, MILLIONS)
    except OSError as error:
        pytest.skip(f"no files of 51 GB here: {error}")
    yield made
    (made.folder / VECTORS).unlink()
    (made.folder / scale_heads.CHECKSUMS).unlink()


def is_sparse(path):
    return path.stat().st_blocks * 512 < path.stat().st_size // 100


def write_rows(path, rows, values):
    with path.open("r+b") as file:
        for row, value in zip(rows.tolist(), values, strict=True):
            file.seek(row * value.nbytes)
            file.write(value.tobytes())


@pytest.mark.slow
def test_ten_million_vectors_are_drawn_from_as_ten_thousand_and_cost_no_memory(job, tmp_path):
    if not is_sparse(job.folder / VECTORS):
        pytest.skip("the file system has no sparse files")
    labels, training, validation = job.split()
    samples = sampling.sample_training(labels, training, validation, job.plan)
    statistics = training[np.sort(np.random.default_rng(0).integers(len(training), size=16_384))]
    drawn = np.unique(
        np.concatenate([each.ravel() for each in (samples.batches, samples.validation, statistics[::40])])
    )
    vectors = np.random.default_rng(1).normal(size=(len(drawn), DIMENSION)).astype(np.float32)
    vectors[np.arange(len(drawn)), labels[drawn]] += 3
    write_rows(job.folder / VECTORS, drawn, vectors)
    write_rows(job.folder / scale_heads.CHECKSUMS, drawn, checksums.of(vectors)[:, None])
    many = scale_heads.in_own_process(job)

    def gather(rows):  # what the store holds, from this array
        found = np.zeros((len(rows), DIMENSION), np.float32)
        places = np.minimum(np.searchsorted(drawn, rows), len(drawn) - 1)
        found[drawn[places] == rows] = vectors[places[drawn[places] == rows]]
        return found

    head = head_training.train(TrainingData(gather, labels, training, 10), samples, HeadRecipe(), job.plan).head
    assert many.weights == head.last.weights.tobytes()
    assert np.abs(head.last.weights).max() > 0.01  # something was learnt from the rows
    few = Job(tmp_path / "few", 10_000, job.classes, job.steps)
    scale_heads.sparse_store(few.folder, few.vectors)
    grown = scale_heads.in_own_process(few)
    assert many.peak - many.before < grown.peak - grown.before + PER_VECTOR * MILLIONS
