"""Batches by epochs: each photo once in each, and the same whenever a step is asked for."""

import numpy as np
import pytest

from retrain.training.epochs import EpochBatches


@pytest.mark.parametrize(("count", "size"), [(10, 4), (7, 7), (3, 8), (1, 5), (100, 32)])
def test_every_photo_comes_once_in_every_epoch(count, size):
    batches = EpochBatches(count, size, seed=0)
    stream = np.concatenate([batches(step) for step in range(-(-4 * count // size))])[: 4 * count]
    for epoch in stream.reshape(4, count):
        assert sorted(epoch.tolist()) == list(range(count))
    assert {len(batches(step)) for step in range(9)} == {size}


def test_a_step_has_the_same_photos_whichever_came_before():
    batches = EpochBatches(50, 8, seed=3)
    assert np.array_equal(batches(40), EpochBatches(50, 8, seed=3)(40))
    assert not np.array_equal(batches(40), EpochBatches(50, 8, seed=4)(40))


def test_epochs_have_different_orders():
    batches = EpochBatches(20, 20, seed=0)
    assert batches(0).tolist() != batches(1).tolist()
