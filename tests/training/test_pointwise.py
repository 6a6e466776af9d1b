"""Pointwise convolutions as matrix products change no result and no gradient."""

import numpy as np
import pytest

from retrain.training import pointwise


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_network_gives_the_same_and_learns_the_same(use_bias):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    image = keras.Input((6, 8, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same", use_bias=use_bias)(image)
    y = keras.layers.Conv2D(4, 1, use_bias=use_bias, activation="relu6")(x)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.Dropout(0.5)(keras.layers.Conv2D(4, 1, groups=2)(y))
    x = keras.layers.Conv2D(5, 1, 2)(keras.layers.Add()([x, y]))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    images, results = tf.constant(np.random.default_rng(0).normal(size=(3, 6, 8, 3)).astype(np.float32)), []
    for call in (lambda: model(images, training=False), lambda: pointwise.run(model, images)):
        with tf.GradientTape() as tape:
            output = call()
            loss = tf.reduce_sum(output**2)
        results.append([output, *tape.gradient(loss, [variable.value for variable in model.trainable_variables])])
    for one, other in zip(*results, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), rel=1e-4, abs=1e-6)
