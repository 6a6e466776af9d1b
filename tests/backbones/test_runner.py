import numpy as np
import pytest

from retrain.backbones import runner
from retrain.backbones.loading import Backbone
from retrain.errors import BackboneError
from retrain.preprocessing import InputSpec


def limited(most):
    """Return a function that runs at most so many images at once, and counts its calls."""
    import tensorflow as tf

    calls = []

    def run(pixels):
        calls.append(len(pixels))
        if len(pixels) > most:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return pixels.mean(axis=(1, 2), dtype=np.float32)

    return run, calls


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    pixels = np.random.default_rng(0).integers(0, 255, (11, 4, 4, 3)).astype(np.uint8)
    run, calls = limited(3)
    told = []
    vectors = runner.halving(run, pixels, most=11, warn=told.append)
    assert vectors == pytest.approx(pixels.mean(axis=(1, 2)), abs=1e-4)
    assert told == [5, 2]
    assert calls == [11, 5, 2, 2, 2, 2, 2, 1]


def test_an_image_that_does_not_fit_alone_is_one_clear_error():
    run, _ = limited(0)
    with pytest.raises(BackboneError, match="one image alone does not fit"):
        runner.halving(run, np.zeros((2, 4, 4, 3), np.uint8), most=2, warn=lambda most: None)


def test_a_small_first_batch_does_not_make_later_ones_small(mean_colour_backbone):
    network = Backbone("mean", mean_colour_backbone, InputSpec("Placeholder", 16, 16, 0.0, 255.0), "mean_colour", 3)
    found = runner.TensorFlowRunner(network)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 16, 16, 3)).astype(np.uint8)
    sizes = []
    run = found._run_batch
    found._run_batch = lambda batch: (sizes.append(len(batch)), run(batch))[1]
    assert np.array_equal(found(pixels[:1])[0], found(pixels)[0])
    assert sizes == [1, 32]
