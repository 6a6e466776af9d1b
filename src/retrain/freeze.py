"""Turns Keras models, SavedModels and TF-Hub modules into frozen graphs from pixels to bottlenecks.

Every function here returns a `Frozen`: one GraphDef without variables and functions, whose input node takes
float32 [N, height, width, 3] and whose bottleneck node gives float32 [N, D].
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain import graphs
from retrain.errors import BackboneError, GraphError, first_line

INPUT = "input"
BOTTLENECK = "bottleneck"

# What a SavedModel needs beside pure operations to hold and restore its own variables.
_VARIABLE_OPERATIONS = frozenset(
    """
    Assign AssignVariableOp IsVariableInitialized Placeholder ReadVariableOp ResourceGather RestoreV2 Restore
    VarHandleOp VarIsInitializedOp Variable VariableV2 VariableShape RandomNormal TruncatedNormal
    """.split()
)
# What its saver writes with. It is never run, and nothing but the saver may refer to it.
_SAVER_OPERATIONS = frozenset(
    """
    SaveV2 SaveSlices Save MergeV2Checkpoints ShardedFilename StringJoin
    """.split()
)


@dataclass(frozen=True)
class Frozen:
    """A frozen backbone: the GraphDef, its input node and its bottleneck node, and the image size it takes."""

    graph_def: Any
    source: str
    target: str
    height: int
    width: int
    dimension: int


def from_graph_def(graph_def: Any, *, source: str, target: str, height: int, width: int) -> Frozen:
    """Return the part of a frozen graph between two nodes, ending in a flat bottleneck.

    Args:
        graph_def: A checked GraphDef.
        source: Node that takes the images.
        target: Node whose output becomes the bottleneck; [N, h, w, D] is averaged over h and w.
        height: Rows of an image.
        width: Columns of an image.

    Raises:
        GraphError: One of both nodes is not there, or the output is no vector per image.
    """
    import tensorflow as tf

    part = graphs.cut(graph_def, source=source, target=graphs.source_node(target), height=height, width=width)
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(part, name="")
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise GraphError(f"TensorFlow cannot read the graph: {first_line(error)}.") from error
        flat = _flat(graph.get_tensor_by_name(graphs.tensor_name(target)))
        return Frozen(graph.as_graph_def(), source, flat.op.name, height, width, int(flat.shape[1]))


def from_keras(model: Any, *, preprocess: Callable[[Any], Any] | None = None) -> Frozen:
    """Return a Keras model as a frozen graph, batch normalisation in inference mode.

    Args:
        model: A Keras 3 model of one image input with a known size, float32 [N, height, width, 3].
        preprocess: Applied in front of the model, inside the graph.
    """
    _, height, width, _ = model.input_shape

    def bottleneck(pixels: Any) -> Any:
        return model(preprocess(pixels) if preprocess else pixels, training=False)

    return _freeze(bottleneck, height, width)


def from_saved_model(folder: Path, *, height: int | None, width: int | None, output: str | None) -> Frozen:
    """Return a SavedModel or an unpacked TF-Hub module, of TensorFlow 1 or 2, as a frozen graph.

    Args:
        folder: Holds `saved_model.pb`.
        height: Rows of an image, for a model that takes any.
        width: Columns of an image, likewise.
        output: Which of several outputs is the bottleneck.

    Raises:
        GraphError: Refused by the allow-list.
        BackboneError: Not one image in and one vector out, or an unknown size.
    """
    import tensorflow_hub as hub

    _check_saved_model(folder)
    loaded = hub.load(str(folder))
    call, signature_shape = _image_function(loaded, folder, output)
    height = height or signature_shape[0]
    width = width or signature_shape[1]
    if not height or not width:
        raise BackboneError(
            f"{folder} takes images of any size. Say which with --input_height and --input_width (224 is common)."
        )
    return _freeze(call, height, width, keep_alive=loaded)


def probe_image(height: int, width: int) -> np.ndarray:
    """Return a fixed colourful picture, uint8 [height, width, 3], to compare two forms of one network with."""
    rows = np.arange(height)[:, None, None]
    columns = np.arange(width)[None, :, None]
    channels = np.arange(3)[None, None, :]
    waves = np.sin(rows / (7.0 + channels)) + np.cos(columns / (11.0 - channels)) + np.sin((rows + columns) / 23.0)
    return np.clip(127.5 + waves * 42.5, 0, 255).astype(np.uint8)


def _freeze(function: Callable[[Any], Any], height: int, width: int, keep_alive: object = None) -> Frozen:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def to_bottleneck(pixels: Any) -> Any:
        return _flat(function(pixels))

    signature = tf.TensorSpec([None, height, width, 3], tf.float32, name=INPUT)
    concrete = tf.function(to_bottleneck, input_signature=[signature]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    del keep_alive  # its variables had to live until here
    graph_def = frozen.graph.as_graph_def()
    target = BOTTLENECK if any(n.name == BOTTLENECK for n in graph_def.node) else frozen.outputs[0].op.name
    return from_graph_def(graph_def, source=INPUT, target=target, height=height, width=width)


def _flat(tensor: Any) -> Any:
    """Return a tensor [N, D] for [N, D], [N, 1, 1, D] and, averaged, [N, h, w, D]."""
    import tensorflow as tf

    shape = tensor.shape
    if tensor.dtype != tf.float32 or shape.rank not in (2, 4) or shape[-1] is None:
        raise GraphError(
            f"{tensor.name} is {tensor.dtype.name} {shape}; a bottleneck must be float32 [N, D] or [N, h, w, D]. "
            f"Name another with --bottleneck_tensor."
        )
    if shape.rank == 2:
        return tensor
    if shape[1] == shape[2] == 1:
        return tf.reshape(tensor, [-1, shape[-1]], name=BOTTLENECK)
    return tf.reduce_mean(tensor, [1, 2], name=BOTTLENECK)


def _image_function(loaded: Any, folder: Path, output: str | None) -> tuple[Callable[[Any], Any], Any]:
    """Return the function from pixels to features of a loaded model, and the (height, width) that it states."""
    signatures = getattr(loaded, "signatures", {})
    name = next((n for n in ("default", "serving_default") if n in signatures), None)
    if name is None and not callable(loaded):
        raise BackboneError(f"{folder} has no signature 'default' or 'serving_default' and cannot be called.")
    if name is None:
        return (lambda pixels: _single(loaded(pixels, training=False), folder, output)), (None, None)
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1 or next(iter(inputs.values())).shape.rank not in (4, None):
        raise BackboneError(f"{folder} takes {sorted(inputs)}; a backbone takes one batch of images [N, h, w, 3].")
    argument, spec = next(iter(inputs.items()))
    size = (None, None) if spec.shape.rank is None else (spec.shape[1], spec.shape[2])
    return (lambda pixels: _single(signature(**{argument: pixels}), folder, output)), size


def _single(result: Any, folder: Path, output: str | None) -> Any:
    if not isinstance(result, dict):
        return result
    if output in result:
        return result[output]
    if output is None and len(result) == 1:
        return next(iter(result.values()))
    if output is None and "default" in result:
        return result["default"]
    raise BackboneError(f"{folder} has the outputs {sorted(result)}. Name one with --bottleneck_tensor.")


def _check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute and restore its own variables."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise BackboneError(f"{folder} holds no readable saved_model.pb. Give the folder of a SavedModel.") from error
    accepted = _VARIABLE_OPERATIONS | _SAVER_OPERATIONS
    for meta_graph in model.meta_graphs:
        graphs.check_pure(meta_graph.graph_def, name=str(folder), also=accepted)
        _check_saver(meta_graph, folder)


def _check_saver(meta_graph: Any, folder: Path) -> None:
    """Refuse a graph in which anything but the saver itself could write a file."""
    library = meta_graph.graph_def.library.function
    writing = {f.signature.name for f in library if any(n.op in ("SaveV2", "Save", "SaveSlices") for n in f.node_def)}
    saver = re.sub(r":\d+$", "", meta_graph.saver_def.save_tensor_name)
    for node in graphs.all_nodes(meta_graph.graph_def):
        called = {node.op} | {value.func.name for value in node.attr.values() if value.HasField("func")}
        if called & writing and node.name != saver:
            raise GraphError(f"{folder} is refused: its node {node.name!r} writes files.")
