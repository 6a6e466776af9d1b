"""SavedModels: writes a classifier for services, whole or not at all, and runs those of TensorFlow 1 and 2."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import files
from retrain.data.decoding_in_graph import decode_on_white, exif_orientation, turn_upright
from retrain.data.image_files import JPEG_MAGIC
from retrain.errors import ExportError, GraphError, first_line
from retrain.files import temporary_sibling
from retrain.formats.classifier import ModelStats, as_probabilities, does_not_run
from retrain.graphs import editing, nodes, reading
from retrain.metadata import METADATA_FILE, Metadata
from retrain.preprocessing import scale_pixels

PIXELS = "pixels"  # signature and argument: float32 [N, height, width, 3], RGB, 0 to 255
ENCODED = "image_bytes"  # argument of the signature serving_default: string [N], whole image files
PROBABILITIES = "probabilities"


def _save_for_serving(folder: Path, graph: nodes.GraphDef, told: Metadata) -> None:
    """Write a frozen graph as a SavedModel.

    Its signatures: `serving_default` takes `image_bytes`, whole files of any format that TensorFlow decodes, as
    TensorFlow Serving's REST interface sends them in base64; `pixels` takes float32 [N, height, width, 3], RGB, 0 to
    255. Both give, for each image, `labels` string [N, C] and `scores` float32 [N, C], best first, and
    `probabilities` float32 [N, C] in the order of the labels file.

    Args:
        folder: Made by this.
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        OSError: The folder cannot be written.
    """
    import tensorflow as tf

    network = editing.as_function(editing.to_portable(graph), source=told.input or "", target=told.output or "")
    names = tf.constant([label.encode("utf-8", "surrogateescape") for label in told.labels])
    height, width = told.height or 0, told.width or 0

    def ranked(images: Any) -> dict[str, Any]:
        probabilities = tf.identity(network((images - told.mean) / told.std), name=PROBABILITIES)
        scores, ids = tf.math.top_k(probabilities, k=len(told.labels))
        return {"labels": tf.gather(names, ids), "scores": scores, PROBABILITIES: probabilities}

    def decoded(data: Any) -> Any:
        jpeg = tf.equal(tf.strings.substr(data, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
        image = tf.cond(jpeg, lambda: tf.io.decode_jpeg(data, channels=3), lambda: decode_on_white(data))
        upright = turn_upright(tf.ensure_shape(image, [None, None, 3]), exif_orientation(data))
        small = tf.image.resize(upright, [height, width], antialias=True)
        return tf.clip_by_value(tf.round(small), 0, 255)

    def serve(image_bytes: Any) -> dict[str, Any]:
        return ranked(tf.map_fn(decoded, image_bytes, fn_output_signature=tf.TensorSpec([height, width, 3])))

    module = tf.Module()
    signatures = {
        "serving_default": tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, ENCODED)]),
        PIXELS: tf.function(ranked, input_signature=[tf.TensorSpec([None, height, width, 3], tf.float32, PIXELS)]),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


_PREFERRED = ("probabilities", "prediction", "predictions", "scores", "default", "logits")


def describe(path: Path) -> Metadata:
    """Return what a SavedModel tells of itself: by retrain's file in it, or by its signatures.

    Raises:
        GraphError: Not a SavedModel, refused, or without a signature from one image to one vector.
    """
    model = reading.read_saved_model(path)
    told = path / METADATA_FILE
    try:
        if told.exists():
            return Metadata.from_json(told.read_text())
    except (OSError, ValueError) as error:
        raise GraphError(f"{told} cannot be read: {first_line(error)}. Delete it, or write the model again.") from error
    for meta_graph in model.meta_graphs:
        for signature in meta_graph.signature_def.values():
            found = _of_signature(signature)
            if found is not None:
                return found
    raise GraphError(f"{path} has no signature that takes float32 images [N, h, w, 3] and gives [N, C].")


def stats(path: Path) -> ModelStats:
    """Return what a SavedModel is made of.

    Raises:
        GraphError: Not a SavedModel, or refused.
    """
    import tensorflow as tf

    counted: Counter[str] = Counter()
    parameters = 0
    for meta_graph in reading.read_saved_model(path).meta_graphs:
        counted += nodes.count_operations(meta_graph.graph_def)
        parameters += nodes.count_parameters(meta_graph.graph_def)
    if (path / "variables" / "variables.index").exists():
        shapes = [shape for _, shape in tf.train.list_variables(str(path / "variables" / "variables")) if shape]
        parameters += sum(int(np.prod(shape)) for shape in shapes)
    return ModelStats(counted, parameters)


class SavedModel:
    """A classifier in the folder of a SavedModel."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: It has no signature that takes what `described` names.
        """
        import tensorflow as tf

        self.metadata, self._path = described, path
        reading.read_saved_model(path)
        # The signatures hold on to variables by weak references only.
        self._loaded = tf.saved_model.load(str(path))
        self._function = self._signature(described)
        result = self._function.structured_outputs.get(described.output)
        if result is None:
            raise GraphError(
                f"{path} gives {', '.join(sorted(self._function.structured_outputs))}. Name one with --output_layer."
            )
        shape = result.shape
        self.class_count: int | None = None if shape.rank is None else shape.as_list()[-1]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""
        import tensorflow as tf

        image = tf.constant(scale_pixels(pixels, self.metadata))
        try:
            result: np.ndarray = self._function(**{self.metadata.input or "": image})[self.metadata.output].numpy()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise does_not_run(self._path, pixels.shape, error) from error
        return as_probabilities(result)

    def for_thread(self) -> "SavedModel":
        """Return this classifier: it serves many threads."""
        return self

    def _signature(self, described: Metadata) -> Any:
        taken = {
            tuple(function.structured_input_signature[1]): function for function in self._loaded.signatures.values()
        }
        if (described.input,) in taken:
            return taken[described.input,]
        found = "; ".join(", ".join(names) for names in taken)
        raise GraphError(f"the signatures of {self._path} take {found}. Name one with --input_layer.")


class Encoded:
    """A SavedModel that decodes image files itself, by the signature `serving_default` that retrain writes."""

    def __init__(self, path: Path) -> None:
        """Load the model.

        Raises:
            GraphError: Refused.
        """
        import tensorflow as tf

        reading.read_saved_model(path)
        self._loaded = tf.saved_model.load(str(path))
        self._function = self._loaded.signatures["serving_default"]

    def __call__(self, data: bytes) -> np.ndarray:
        """Return the probabilities float32 [C] of a whole image file, NaN for one that TensorFlow does not decode."""
        import tensorflow as tf

        try:
            found: np.ndarray = self._function(tf.constant([data]))["probabilities"].numpy()[0]
        except tf.errors.InvalidArgumentError:
            shape = self._function.structured_outputs["probabilities"].shape
            return np.full(shape[-1], np.nan, np.float32)
        return found


def _of_signature(signature: Any) -> Metadata | None:
    """Return what a signature from images to scores tells, None for any other."""
    import tensorflow as tf

    if len(signature.inputs) != 1:
        return None
    ((argument, taken),) = signature.inputs.items()
    shape = tf.TensorShape(taken.tensor_shape)
    floats = tf.float32.as_datatype_enum
    if taken.dtype != floats or shape.rank not in (4, None):
        return None
    given = [name for name, info in sorted(signature.outputs.items()) if info.dtype == floats]
    if not given:
        return None
    output = next((name for name in _PREFERRED if name in given), given[0] if len(given) == 1 else None)
    sides = (None, None) if shape.rank is None else (shape[1], shape[2])
    return Metadata(input=argument, output=output, height=sides[0], width=sides[1])


def write(folder: Path, graph: nodes.GraphDef, told: Metadata) -> None:
    """Write a frozen graph as a SavedModel for services, see `serving`.

    Args:
        folder: Made by this; one that this wrote before is replaced.
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        ExportError: The folder cannot be written.
    """
    own = replace(told, input=PIXELS, output=PROBABILITIES, bottleneck=None, mean=0.0, std=1.0)
    _put(folder, own, lambda draft: _save_for_serving(draft, graph, told))


def write_as_the_original(folder: Path, graph: nodes.GraphDef, told: Metadata) -> None:
    """Write a frozen graph as the SavedModel that `retrain.py --saved_model_dir` wrote.

    Its signature `serving_default` takes `image`, float32 [N, height, width, 3] in [0, 1], and gives `prediction`,
    float32 [N, C]. It holds no functions, so that TensorFlow 1 loads it too.

    Args:
        folder: Made by this; one that this wrote before is replaced.
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        ExportError: The folder cannot be written.
    """
    own = replace(told, input="image", output="prediction", bottleneck=None, mean=0.0, std=255.0)
    _put(folder, own, lambda draft: _save_as_the_original(draft, graph, told))


def check(folder: Path) -> None:
    """Fail now, not after the training, where a SavedModel would take the place of something else.

    Raises:
        ExportError: The folder holds other things than a SavedModel that retrain wrote, or cannot be made.
    """
    files.check_writable(folder / "saved_model.pb")
    if any(folder.iterdir()) and not (folder / METADATA_FILE).exists():
        raise ExportError(f"{folder} holds other files already. Name a folder that does not exist.")


def _put(folder: Path, told: Metadata, save: Callable[[Path], None]) -> None:
    draft = temporary_sibling(folder)
    try:
        save(draft)
        (draft / METADATA_FILE).write_text(told.to_json())
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror}. Name another folder.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save_as_the_original(folder: Path, graph: nodes.GraphDef, told: Metadata) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, told.height, told.width, 3], name="image")
        pixels = (image * 255.0 - (told.mean or 0.0)) / (told.std or 1.0)
        (prediction,) = tf.graph_util.import_graph_def(graph, {told.input: pixels}, [f"{told.output}:0"], name="")
        signature = v1.saved_model.predict_signature_def({"image": image}, {"prediction": prediction})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
        )
        builder.save()
