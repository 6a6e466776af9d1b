"""The last feature maps of LiteRT models that end in their mean."""

import numpy as np
import pytest
from builders import built

from retrain.formats.litert import conversion, maps
from retrain.formats.litert.model import Runner
from retrain.preprocessing import InputSpec

SPEC = InputSpec("input", 9, 9, 0.0, 255.0)
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32)


def features(tf, image):
    return tf.nn.relu(tf.nn.conv2d(image, KERNEL, 2, "VALID"))


ENDINGS = {
    "mean": lambda tf, maps: tf.reduce_mean(maps, [1, 2], name="out"),
    "pool": lambda tf, maps: tf.squeeze(tf.nn.avg_pool2d(maps, 4, 1, "VALID"), [1, 2], name="out"),
    "reshaped": lambda tf, maps: tf.reshape(tf.reduce_mean(maps, [1, 2], keepdims=True), [-1, 5], name="out"),
}
OTHERS = {
    "dense behind": lambda tf, maps: tf.matmul(tf.reduce_mean(maps, [1, 2]), np.eye(5, dtype=np.float32), name="out"),
    "flat": lambda tf, maps: tf.reshape(maps, [-1, 80], name="out"),
    "largest": lambda tf, maps: tf.reduce_max(maps, [1, 2], name="out"),
    "one place": lambda tf, maps: tf.reduce_mean(maps[:, :1, :1], [1, 2], name="out"),
    "mean of channels": lambda tf, maps: tf.reshape(tf.reduce_mean(maps, [3]), [-1, 16], name="out"),
}


def model(end):
    graph = built(lambda tf, image: end(tf, features(tf, image)))
    return conversion.to_float32(graph, SPEC, target="out")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_mean_of_the_maps_is_what_the_model_gives(ending):
    whole = model(ENDINGS[ending])
    below = maps.with_maps(whole)
    pixels = np.random.default_rng(1).integers(0, 255, (9, 9, 3), np.uint8)
    run = Runner(below, SPEC)
    found = run(pixels).reshape(run.shape[1:])
    assert found.shape == (4, 4, 5)
    assert np.allclose(found.mean(axis=(0, 1)), Runner(whole, SPEC)(pixels), atol=1e-5)
    assert np.ptp(found, axis=(0, 1)).max() > 0
    assert maps.multiplications(whole) == maps.multiplications(below) == 4 * 4 * 5 * 3 * 3 * 3


@pytest.mark.slow
@pytest.mark.parametrize("ending", OTHERS)
def test_there_are_none_where_the_model_gives_another_thing(ending):
    assert maps.with_maps(model(OTHERS[ending])) is None


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\0\0\0\0TFL3" + b"\xff" * 90])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ValueError, match="LiteRT model"):
        maps.with_maps(data)
    with pytest.raises(ValueError, match="LiteRT model"):
        maps.multiplications(data)
