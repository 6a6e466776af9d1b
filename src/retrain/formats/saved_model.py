"""SavedModels: writes a classifier for services, whole or not at all, and runs those of TensorFlow 1 and 2."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrain.data.decoding_in_graph import decode
from retrain.errors import ExportError, GraphError, first_line, printable
from retrain.files import aside, exchange
from retrain.formats.classifier import (
    Classifier,
    ExportSource,
    ModelStats,
    check_image_shape,
    does_not_run,
    read_model,
)
from retrain.graphs.editing import as_function, to_portable
from retrain.graphs.nodes import GraphDef, count_operations, count_parameters, in_tensorflow
from retrain.graphs.reading import read_saved_model
from retrain.metadata import METADATA_FILE, Metadata
from retrain.preprocessing import InputSpec

PIXELS = "pixels"  # signature and argument: float32 [N, height, width, 3], RGB, 0 to 255
ENCODED = "image_bytes"  # argument of the signature serving_default: string [N], whole image files
PROBABILITIES = "probabilities"
_FILES = re.compile(r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d+-of-\d+)")
_PREFERRED = ("probabilities", "prediction", "predictions", "scores", "default", "logits")


def write(source: ExportSource, folder: Path) -> None:
    """Write a classifier as a SavedModel for services; a folder that this wrote before is replaced.

    Its signatures: `serving_default` takes `image_bytes`, whole files of any format that TensorFlow decodes, as
    TensorFlow Serving's REST interface sends them in base64; `pixels` takes float32 [N, height, width, 3], RGB, 0 to
    255. Both give, for each image, `labels` string [N, C] and `scores` float32 [N, C], best first, and
    `probabilities` float32 [N, C] in the order of the labels file.
    """
    metadata = source.metadata.with_io(PIXELS, PROBABILITIES, mean=0.0, std=1.0)
    _write_whole(folder, metadata, lambda draft: _save_for_serving(draft, source.graph_def, source.metadata))


def write_as_the_original(folder: Path, graph_def: GraphDef, metadata: Metadata) -> None:
    """Write a frozen graph as the SavedModel that `retrain.py --saved_model_dir` wrote.

    Its signature `serving_default` takes `image`, float32 [N, height, width, 3] in [0, 1], and gives `prediction`,
    float32 [N, C]. It holds no functions, so that TensorFlow 1 loads it too. A folder that this wrote before is
    replaced.
    """
    written = metadata.with_io("image", "prediction", mean=0.0, std=255.0)
    _write_whole(folder, written, lambda draft: _save_as_the_original(draft, graph_def, metadata))


def check(folder: Path) -> None:
    """Refuse a folder that holds what `write` did not put there: it would go with the old model.

    Raises:
        ExportError: Names a file of others in it.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    others = sorted(
        name for name in names - {METADATA_FILE} if METADATA_FILE not in names or not _FILES.fullmatch(name)
    )
    if others:
        raise ExportError(
            f"{folder} holds other files already, {printable(others[0])} among them. Name a folder that does not exist."
        )


def describe(path: Path) -> Metadata:
    """Return the metadata of a SavedModel, or else what its signatures show."""
    model = read_saved_model(path)
    file = path / METADATA_FILE
    try:
        if file.exists():
            return Metadata.from_json(read_model(file))
    except ValueError as error:
        raise GraphError(f"{file} cannot be read: {first_line(error)}. Delete it, or write the model again.") from error
    for meta_graph in model.meta_graphs:
        for signature in meta_graph.signature_def.values():
            metadata = _metadata_of(path, signature)
            if metadata is not None:
                return metadata
    raise GraphError(f"{path} has no signature that takes images of floats [N, h, w, 3] and gives [N, C].")


def stats(path: Path) -> ModelStats:
    """Return the operations and parameters of a SavedModel."""
    import tensorflow as tf

    operations: Counter[str] = Counter()
    parameters = 0
    for meta_graph in read_saved_model(path).meta_graphs:
        operations += count_operations(meta_graph.graph_def)
        parameters += count_parameters(meta_graph.graph_def)
    if (path / "variables" / "variables.index").exists():
        shapes = [shape for _, shape in tf.train.list_variables(str(path / "variables" / "variables")) if shape]
        parameters += sum(int(np.prod(shape)) for shape in shapes)
    return ModelStats(operations, parameters)


class SavedModel(Classifier):
    """A classifier in the folder of a SavedModel."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        import tensorflow as tf

        self.metadata, self.path = metadata, path
        read_saved_model(path)
        # The signatures hold on to variables by weak references only.
        self._loaded = tf.saved_model.load(str(path))
        self._function = self._signature()
        result = self._function.structured_outputs.get(metadata.output)
        if result is None:
            raise GraphError(
                f"{path} gives {', '.join(sorted(self._function.structured_outputs))}. Name one with --output_layer."
            )
        self.class_count = None if result.shape.rank is None else result.shape.as_list()[-1]

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""
        import tensorflow as tf

        spec = self.metadata.input
        (image,) = self._function.structured_input_signature[1].values()
        try:
            values = tf.cast(spec.scale(pixels), image.dtype)
            result: np.ndarray = self._function(**{spec.node or "": values})[self.metadata.output].numpy()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise does_not_run(self.path, pixels.shape, error) from error
        return result

    def _signature(self) -> Any:
        arguments = {
            tuple(function.structured_input_signature[1]): function for function in self._loaded.signatures.values()
        }
        if (self.metadata.input.node,) in arguments:
            return arguments[self.metadata.input.node,]
        names = "; ".join(", ".join(each) for each in arguments)
        raise GraphError(f"the signatures of {self.path} take {names}. Name one with --input_layer.")


load = SavedModel


class ImageFileModel:
    """A SavedModel that decodes image files itself, by the signature `serving_default` that retrain writes."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        read_saved_model(path)
        self._loaded = tf.saved_model.load(str(path))
        self._function = self._loaded.signatures["serving_default"]

    def __call__(self, data: bytes) -> np.ndarray:
        """Return the probabilities float32 [C] of a whole image file, NaN for one that TensorFlow does not decode."""
        import tensorflow as tf

        try:
            result: np.ndarray = self._function(tf.constant([data]))[PROBABILITIES].numpy()[0]
        except tf.errors.InvalidArgumentError:
            shape = self._function.structured_outputs[PROBABILITIES].shape
            return np.full(shape[-1], np.nan, np.float32)
        return result


def _metadata_of(path: Path, signature: Any) -> Metadata | None:
    """Return the metadata that a signature of a model from images to scores shows, None for any other."""
    import tensorflow as tf

    if len(signature.inputs) != 1:
        return None
    ((argument, image),) = signature.inputs.items()
    shape = tf.TensorShape(image.tensor_shape)
    floats = [kind.as_datatype_enum for kind in (tf.float32, tf.float16, tf.bfloat16, tf.float64)]
    if image.dtype not in floats or shape.rank not in (4, None):
        return None
    outputs = [name for name, info in sorted(signature.outputs.items()) if info.dtype in floats]
    if not outputs:
        return None
    if shape.rank is not None:
        check_image_shape(path, shape.as_list())
    output = next((name for name in _PREFERRED if name in outputs), outputs[0] if len(outputs) == 1 else None)
    height, width = (None, None) if shape.rank is None else (shape[1], shape[2])
    return Metadata(input=InputSpec(argument, height, width), output=output)


def put_in_place(draft: Path, folder: Path) -> None:
    """Give a SavedModel another name, where it replaces one that `write` wrote and nothing else.

    In one step where the system can: whenever the process is killed, the old one is there or the new one.

    Raises:
        ExportError: The folder holds other files, or cannot be replaced.
    """
    check(folder)
    old = draft
    try:
        if not folder.exists():
            draft.replace(folder)
        elif not exchange(draft, folder):
            old = aside(folder)
            folder.replace(old)
            draft.replace(folder)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror}. Name another folder.") from error
    shutil.rmtree(old, ignore_errors=True)


def _write_whole(folder: Path, metadata: Metadata, save: Callable[[Path], None]) -> None:
    """Write a SavedModel aside and put it in its place, with its metadata in it."""
    draft = aside(folder)
    try:
        save(draft)
        (draft / METADATA_FILE).write_text(metadata.to_json())
        put_in_place(draft, folder)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror}. Name another folder.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save_for_serving(folder: Path, graph_def: GraphDef, metadata: Metadata) -> None:
    import tensorflow as tf

    spec = metadata.input
    network = as_function(to_portable(graph_def), source=spec.node or "", target=metadata.output or "")
    names = tf.constant([label.encode("utf-8", "surrogateescape") for label in metadata.labels])
    height, width = spec.size

    def ranked(images: Any) -> dict[str, Any]:
        probabilities = tf.identity(network((images - spec.mean) / spec.std), name=PROBABILITIES)
        scores, ids = tf.math.top_k(probabilities, k=len(metadata.labels))
        return {"labels": tf.gather(names, ids), "scores": scores, PROBABILITIES: probabilities}

    def serve(image_bytes: Any) -> dict[str, Any]:
        result = tf.TensorSpec([height, width, 3])
        decoded = partial(decode, height=height, width=width, keep_aspect_ratio=spec.keep_aspect_ratio)
        return ranked(tf.map_fn(decoded, image_bytes, fn_output_signature=result))

    module = tf.Module()
    signatures = {
        "serving_default": tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string, ENCODED)]),
        PIXELS: tf.function(ranked, input_signature=[tf.TensorSpec([None, height, width, 3], tf.float32, PIXELS)]),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _save_as_the_original(folder: Path, graph_def: GraphDef, metadata: Metadata) -> None:
    import tensorflow as tf

    v1, spec = tf.compat.v1, metadata.input
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, spec.height, spec.width, 3], name="image")
        pixels = (image * 255.0 - (spec.mean or 0.0)) / (spec.std or 1.0)
        (prediction,) = tf.graph_util.import_graph_def(
            in_tensorflow(graph_def), {spec.node: pixels}, [f"{metadata.output}:0"], name=""
        )
        signature = v1.saved_model.predict_signature_def({"image": image}, {"prediction": prediction})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature}
        )
        builder.save()
