"""Runs classifiers in `.keras` and `.h5` files, which are loaded in safe mode."""

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from retrain import keras_models
from retrain.errors import GraphError, does_not_run, first_line
from retrain.metadata import METADATA_FILE, Anatomy, Metadata, probabilities, scaled

SUFFIXES = (".keras", ".h5")


def describe(path: Path) -> Metadata:
    """Return what a Keras model tells of itself: by retrain's file in it, or by its layers.

    Raises:
        GraphError: Not a Keras model of one image and one vector.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if METADATA_FILE in archive.namelist():
                return Metadata.from_json(archive.read(METADATA_FILE))
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # no archive, as every .h5 file: Keras says what is wrong with it
    model = load(path)
    _, height, width, _ = model.input_shape
    mean, std = (0.0, 1.0) if keras_models.scales_pixels(model) else (None, None)
    return Metadata(
        input=model.inputs[0].name, output=model.layers[-1].name, height=height, width=width, mean=mean, std=std
    )


def load(path: Path) -> Any:
    """Return the Keras model in a file.

    Raises:
        GraphError: Not a Keras model, or not one of one RGB image and one vector.
    """
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        shapes = (model.input_shape, model.output_shape)
    except Exception as error:  # Keras raises anything from ValueError to KeyError
        raise GraphError(f"cannot load {path} as a Keras model: {first_line(error)}.") from error
    if not all(isinstance(shape, tuple) for shape in shapes) or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise GraphError(
            f"{path} takes {shapes[0]} and gives {shapes[1]}; a classifier takes [N, h, w, 3], gives [N, C]."
        )
    return model


def anatomy(path: Path) -> Anatomy:
    """Return what a Keras model is made of: its layers.

    Raises:
        GraphError: Not a Keras model of one image and one vector.
    """
    model = load(path)
    return Anatomy(Counter(type(layer).__name__ for layer in model.layers), model.count_params())


class KerasModel:
    """A classifier in a Keras file."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: Not a classifier of images.
        """
        import tensorflow as tf

        self.metadata, self._path = described, path
        model = load(path)
        self.class_count: int | None = model.output_shape[-1]
        # One trace for every number of images: a call of the model itself would run layer by layer.
        self._run = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        import tensorflow as tf

        try:
            return probabilities(self._run(tf.constant(scaled(pixels, self.metadata))).numpy())
        except (ValueError, tf.errors.OpError) as error:
            raise does_not_run(self._path, pixels.shape, error) from error

    def for_thread(self) -> "KerasModel":
        """Return this classifier: it serves many threads."""
        return self
