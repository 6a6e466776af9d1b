"""Keras models: writes a classifier as a `.keras` file, and runs `.keras` and `.h5` files in safe mode."""

import io
import zipfile
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.errors import GraphError, first_line
from retrain.files import write_result
from retrain.formats.classifier import Classifier, ExportSource, ModelStats, as_probabilities, does_not_run
from retrain.formats.keras_layers import LayerBuilder
from retrain.graphs.editing import to_portable
from retrain.graphs.nodes import GraphDef
from retrain.metadata import METADATA_FILE, Metadata
from retrain.preprocessing import InputSpec

INPUT = "image"


def write(source: ExportSource, path: Path) -> None:
    """Write a classifier as a `.keras` file with its metadata inside.

    The model takes RGB pixels 0 to 255, [N, height, width, 3], scales them itself, and gives probabilities [N, C].
    """
    model = build_model(source.graph_def, source.metadata)
    metadata = source.metadata.with_io(INPUT, model.layers[-1].name, mean=0.0, std=1.0)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        data = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(zipfile.ZipInfo(METADATA_FILE), metadata.to_json())
    write_result(path, data.getvalue())


def build_model(graph_def: GraphDef, metadata: Metadata) -> Any:
    """Return a frozen graph as a Keras model, layer by layer, on pixels 0 to 255.

    Raises:
        ExportError: It has an operation that this has no layer for.
    """
    import keras

    spec = metadata.input
    image = keras.Input((spec.height, spec.width, 3), name=INPUT)
    std = spec.std or 1.0
    scaled = keras.layers.Rescaling(1 / std, -(spec.mean or 0.0) / std, name="scale")(image)
    builder = LayerBuilder(to_portable(graph_def), scaled, source=spec.node or "", output=metadata.output or "")
    return keras.Model(image, builder.result, name="retrain")


def describe(path: Path) -> Metadata:
    """Return the metadata of a Keras model, or else what its layers show."""
    try:
        with zipfile.ZipFile(path) as archive:
            if METADATA_FILE in archive.namelist():
                return Metadata.from_json(archive.read(METADATA_FILE))
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # no archive, as every .h5 file: Keras says what is wrong with it
    model = load_model(path)
    _, height, width, _ = model.input_shape
    mean, std = (0.0, 1.0) if scales_pixels(model) else (None, None)
    return Metadata(input=InputSpec(model.inputs[0].name, height, width, mean, std), output=model.layers[-1].name)


def load_model(path: Path) -> Any:
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


def scales_pixels(model: Any) -> bool:
    """Return whether a model brings pixels 0 to 255 into its own range by itself."""
    import keras

    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, scaling) for layer in model._flatten_layers(include_self=False))


def stats(path: Path) -> ModelStats:
    """Return the layers and parameters of a Keras model."""
    model = load_model(path)
    return ModelStats(Counter(type(layer).__name__ for layer in model.layers), model.count_params())


class KerasModel(Classifier):
    """A classifier in a Keras file."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        import tensorflow as tf

        self.metadata, self._path = metadata, path
        model = load_model(path)
        self.class_count = model.output_shape[-1]
        # One trace for every number of images: a call of the model itself would run layer by layer.
        self._run = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        import tensorflow as tf

        try:
            return as_probabilities(self._run(tf.constant(self.metadata.input.scale(pixels))).numpy())
        except (ValueError, tf.errors.OpError) as error:
            raise does_not_run(self._path, pixels.shape, error) from error


load = KerasModel
