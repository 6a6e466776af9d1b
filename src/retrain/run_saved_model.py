"""Runs classifiers in SavedModels, of TensorFlow 1 and 2, by one of their signatures."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from retrain import graphs, saved_models
from retrain.errors import GraphError, does_not_run, first_line
from retrain.metadata import METADATA_FILE, Anatomy, Metadata, probabilities, scaled

_PREFERRED = ("probabilities", "prediction", "predictions", "scores", "default", "logits")


def describe(path: Path) -> Metadata:
    """Return what a SavedModel tells of itself: by retrain's file in it, or by its signatures.

    Raises:
        GraphError: Not a SavedModel, refused, or without a signature from one image to one vector.
    """
    model = saved_models.checked(path)
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


def anatomy(path: Path) -> Anatomy:
    """Return what a SavedModel is made of.

    Raises:
        GraphError: Not a SavedModel, or refused.
    """
    import tensorflow as tf

    counted: Counter[str] = Counter()
    parameters = 0
    for meta_graph in saved_models.checked(path).meta_graphs:
        counted += graphs.operations(meta_graph.graph_def)
        parameters += graphs.parameters(meta_graph.graph_def)
    if (path / "variables" / "variables.index").exists():
        shapes = [shape for _, shape in tf.train.list_variables(str(path / "variables" / "variables")) if shape]
        parameters += sum(int(np.prod(shape)) for shape in shapes)
    return Anatomy(counted, parameters)


class SavedModel:
    """A classifier in the folder of a SavedModel."""

    def __init__(self, path: Path, described: Metadata) -> None:
        """Load the model; `described` comes from `describe`, with the user's own values filled in.

        Raises:
            GraphError: It has no signature that takes what `described` names.
        """
        import tensorflow as tf

        self.metadata, self._path = described, path
        saved_models.checked(path)
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

        image = tf.constant(scaled(pixels, self.metadata))
        try:
            result: np.ndarray = self._function(**{self.metadata.input or "": image})[self.metadata.output].numpy()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise does_not_run(self._path, pixels.shape, error) from error
        return probabilities(result)

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

        saved_models.checked(path)
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
