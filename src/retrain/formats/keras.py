"""Keras models: writes a classifier as a `.keras` file, and runs `.keras` and `.h5` files in safe mode."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.errors import ExportError, GraphError, RetrainError, first_line
from retrain.files import write_result
from retrain.formats import limits
from retrain.formats.classifier import (
    Classifier,
    ExportSource,
    ModelStats,
    check_image_shape,
    check_model,
    does_not_run,
)
from retrain.formats.keras_layers import LayerBuilder
from retrain.graphs.editing import to_portable
from retrain.graphs.nodes import GraphDef
from retrain.metadata import METADATA_FILE, Metadata
from retrain.preprocessing import InputSpec, range_before

INPUT = "image"
# Layers that leave the range of pixels as it is when a model answers, beside all Random... ones.
_PASSING = "InputLayer Dropout GaussianNoise Identity Resizing CenterCrop ZeroPadding2D Cropping2D".split()


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
    mean, std = np.asarray(spec.mean or 0.0), np.asarray(spec.std or 1.0)
    scaled = keras.layers.Rescaling((1 / std).tolist(), (-mean / std).tolist(), name="scale")(image)
    try:
        builder = LayerBuilder(to_portable(graph_def), scaled, source=spec.node or "", output=metadata.output or "")
    except GraphError as error:
        raise ExportError(
            f"--export keras does not go with this network: {error}. "
            f"Leave keras out of --export, or choose another --architecture."
        ) from error
    return keras.Model(image, builder.result, name="retrain")


def describe(path: Path) -> Metadata:
    """Return the metadata of a Keras model, or else what its layers show."""
    check_model(path)
    limits.check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if METADATA_FILE in archive.namelist():
                return Metadata.from_json(archive.read(METADATA_FILE))
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # no archive, as every .h5 file: Keras says what is wrong with it
    model = load_model(path)
    _, height, width, _ = model.input_shape
    mean, std = pixel_range(model) or (None, None)
    vectors = [name for name, tensor in _outputs(model).items() if len(tensor.shape) == 2]
    output = model.layers[-1].name if len(model.outputs) == 1 else vectors[0] if len(vectors) == 1 else None
    return Metadata(input=InputSpec(model.inputs[0].name, height, width, mean, std), output=output)


def load_model(path: Path) -> Any:
    """Return the Keras model in a file.

    Raises:
        GraphError: Not a Keras model, or not one of one RGB image and of vectors.
    """
    try:
        model = open_model(path)
        shapes = [tensor.shape for tensor in model.inputs]
        outputs = _outputs(model)
    except RetrainError:
        raise
    except Exception as error:  # Keras raises anything from ValueError to KeyError
        raise GraphError(f"cannot load {path} as a Keras model: {first_line(error)[:200]}.") from error
    if len(shapes) != 1 or not any(len(output.shape) == 2 for output in outputs.values()):
        given = "; ".join(str(output.shape) for output in outputs.values())
        taken = "; ".join(map(str, shapes))
        raise GraphError(f"{path} takes {taken} and gives {given}; a classifier takes [N, h, w, 3], gives [N, C].")
    check_image_shape(path, shapes[0])
    return model


def open_model(path: Path) -> Any:
    """Return the Keras model in a file, of Keras 3 or 2, loaded in safe mode; raises whatever Keras does.

    Raises:
        GraphError: It unpacks to far more than itself.
    """
    import keras

    check_model(path)
    limits.check_weights(path)

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """One that passes over what Keras 2 wrote and Keras 3 refuses; the files of Teachable Machine are such."""

        def __init__(self, *args: Any, groups: int = 1, **options: Any) -> None:
            super().__init__(*args, **options)

    objects = {"DepthwiseConv2D": DepthwiseConv2D} if path.suffix == ".h5" else None
    return keras.saving.load_model(path, objects, compile=False, safe_mode=True)


def pixel_range(model: Any) -> tuple[float, float] | None:
    """Return mean and std of the pixels that a model takes, by the layer that scales them before all others do.

    None: no such layer, or one that does not tell the range with certainty.
    """
    import keras

    layers = (layer for layer in _chain(model) if type(layer).__name__ not in _PASSING)
    first = next((layer for layer in layers if not type(layer).__name__.startswith("Random")), None)
    if isinstance(first, keras.layers.Rescaling):
        return range_before(first.scale, first.offset)
    if isinstance(first, keras.layers.Normalization) and not first.invert and first.mean is not None:
        # Of the ranges that pixels come in, only 0 to 255 has means and deviations above 1.
        mean, variance = np.array(first.mean), np.array(first.variance)
        return (0.0, 1.0) if (mean > 1).all() and (variance > 1).all() else None
    return None


def _chain(model: Any) -> Iterator[Any]:
    """Yield the layers that an image goes through, one after the other, and None where its way divides."""
    import keras

    def followed() -> Iterator[Any]:
        of_model, tensor = list(chain.from_iterable(model._nodes_by_depth.values())), model.inputs[0]
        while True:
            nodes = [node for node in of_model if any(each is tensor for each in node.input_tensors)]
            if not nodes:
                return
            yield nodes[0].operation if len(nodes) == len(nodes[0].input_tensors) == 1 else None
            tensor = nodes[0].output_tensors[0]

    for layer in model.layers if isinstance(model, keras.Sequential) else followed():
        if isinstance(layer, keras.Model):
            yield from _chain(layer)
        else:
            yield layer


def _outputs(model: Any) -> dict[str, Any]:
    """Return the outputs of a model by their names: the keys of what it gives, else the names of their layers."""
    import keras

    if isinstance(model, keras.Sequential):
        return {model.layers[-1].name: model.outputs[0]}
    if isinstance(model.output, dict):
        return model.output
    return dict(zip(model.output_names, model.outputs, strict=True))


def _last_operation(output: Any) -> str:
    """Return the activation of the layer that gives an output, in lower case; the layer's kind where it has none."""
    import keras

    layer = output._keras_history.operation
    while isinstance(layer, keras.Model):
        layer = layer.layers[-1]
    name = str(getattr(getattr(layer, "activation", None), "__name__", "linear")).lower()
    return type(layer).__name__.lower() if name == "linear" else name


def stats(path: Path) -> ModelStats:
    """Return the layers and parameters of a Keras model."""
    model = load_model(path)
    return ModelStats(Counter(type(layer).__name__ for layer in model.layers), model.count_params())


class KerasModel(Classifier):
    """A classifier in a Keras file."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        import keras
        import tensorflow as tf

        self.metadata, self.path = metadata, path
        model = load_model(path)
        outputs = _outputs(model)
        name = metadata.output if len(outputs) > 1 else next(iter(outputs))
        if name not in outputs:
            raise GraphError(f"{path} gives {', '.join(outputs)}. Name one with --output_layer.")
        output = outputs[name]
        self.class_count, self.last_operation = output.shape[-1], _last_operation(output)
        part = keras.Model(model.inputs, output) if len(outputs) > 1 else model
        # One trace for every number of images: a call of the model itself would run layer by layer.
        self._run = tf.function(lambda images: part(images, training=False), reduce_retracing=True)

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""
        import tensorflow as tf

        try:
            result = self._run(tf.constant(self.metadata.input.scale(pixels)))
        except (ValueError, tf.errors.OpError) as error:
            raise does_not_run(self.path, pixels.shape, error) from error
        (scores,) = tf.nest.flatten(result)
        return scores.numpy()  # type: ignore[no-any-return]


load = KerasModel
