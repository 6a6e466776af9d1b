"""Writes a network of a few hundred weights, to train on and as a classifier of Keras 2's form."""

import sys
from pathlib import Path


def main() -> None:
    """Write network.keras and classifier.h5 into the folder that the argument names."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    folder = Path(sys.argv[1])
    body = [
        keras.Input((32, 32, 3)),
        layers.Conv2D(4, 3, strides=2, name="convolution"),
        layers.BatchNormalization(name="normalisation"),
        layers.ReLU(6.0, name="relu"),
        layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
        layers.GlobalAveragePooling2D(name="features"),
    ]
    keras.Sequential(body, name="network").save(folder / "network.keras")
    classifier = keras.Sequential([*body, layers.Dense(5, activation="softmax", name="classes")], name="classifier")
    classifier.save(folder / "classifier.h5")


if __name__ == "__main__":
    main()
