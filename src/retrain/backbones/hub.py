"""SavedModels and TF-Hub modules, of TensorFlow 1 and 2, as frozen graphs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from retrain.errors import BackboneError
from retrain.graphs import editing, freezing, nodes
from retrain.graphs.freezing import FrozenGraph
from retrain.graphs.reading import read_saved_model

PLACEHOLDER = "Placeholder"  # where a graph that the original exported from such a module takes its image
_SIGNATURES = ("default", "serving_default")  # TF-Hub's name of TensorFlow 1 first


def load(folder: Path, *, height: int | None, width: int | None, output: str | None) -> FrozenGraph:
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
    model = read_saved_model(folder)
    if any(meta_graph.HasField("object_graph_def") for meta_graph in model.meta_graphs):
        frozen = _load_tf2(folder, height, width, output)
    else:
        frozen = _load_tf1(folder, model, height, width, output)
    return replace(
        frozen, graph_def=editing.rename_node(frozen.graph_def, frozen.source, PLACEHOLDER), source=PLACEHOLDER
    )


def _load_tf2(folder: Path, height: int | None, width: int | None, output: str | None) -> FrozenGraph:
    import tensorflow_hub as hub

    loaded = hub.load(str(folder))  # held until the graph is frozen: its variables live in it
    signature = next((loaded.signatures[name] for name in _SIGNATURES if name in loaded.signatures), None)
    if signature is None and not callable(loaded):
        raise BackboneError(f"{folder} has no signature {' or '.join(_SIGNATURES)} and cannot be called.")
    if signature is None:
        return freezing.from_function(
            lambda pixels: _chosen(_called(loaded, pixels), folder, output), *_size(folder, None, height, width)
        )
    argument, shape = _only_image(folder, {k: v.shape for k, v in signature.structured_input_signature[1].items()})
    return freezing.from_function(
        lambda pixels: _chosen(signature(**{argument: pixels}), folder, output), *_size(folder, shape, height, width)
    )


def _load_tf1(folder: Path, model: Any, height: int | None, width: int | None, output: str | None) -> FrozenGraph:
    """Freeze a model of TensorFlow 1 in a session, which also reads the variables that TensorFlow 2 cannot."""
    import tensorflow as tf

    v1 = tf.compat.v1
    meta_graph = min(model.meta_graphs, key=lambda each: "train" in each.meta_info_def.tags)
    signature = next((meta_graph.signature_def[n] for n in _SIGNATURES if n in meta_graph.signature_def), None)
    if signature is None:
        raise BackboneError(f"{folder} has no signature {' or '.join(_SIGNATURES)}.")
    shapes = {name: tf.TensorShape(info.tensor_shape) for name, info in signature.inputs.items()}
    argument, shape = _only_image(folder, shapes)
    height, width = _size(folder, shape, height, width)
    target = nodes.node_name(_chosen(dict(signature.outputs), folder, output).name)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, list(meta_graph.meta_info_def.tags), str(folder))
        graph_def = v1.graph_util.convert_variables_to_constants(session, session.graph_def, [target])
    source = nodes.node_name(signature.inputs[argument].name)
    return freezing.from_graph_def(graph_def, source=source, target=target, height=height, width=width)


def _called(loaded: Any, pixels: Any) -> Any:
    """Return the result of a loaded object, in inference mode where it knows modes."""
    try:
        return loaded(pixels, training=False)
    except (TypeError, ValueError):  # the call was saved without such an argument
        return loaded(pixels)


def _only_image(folder: Path, shapes: dict[str, Any]) -> tuple[str, Any]:
    """Return the name and the shape of a signature's one input."""
    if len(shapes) != 1 or next(iter(shapes.values())).rank not in (4, None):
        raise BackboneError(f"{folder} takes {sorted(shapes)}; a backbone takes one batch of images [N, h, w, 3].")
    return next(iter(shapes.items()))


def _size(folder: Path, shape: Any, height: int | None, width: int | None) -> tuple[int, int]:
    told = (None, None) if shape is None or shape.rank is None else (shape[1], shape[2])
    if any(own and given and own != given for own, given in zip(told, (height, width), strict=True)):
        raise BackboneError(f"{folder} takes {told[1]} x {told[0]} px images and no other size.")
    height, width = told[0] or height, told[1] or width
    if not height or not width:
        raise BackboneError(
            f"{folder} takes images of any size. Say which with --input_height and --input_width (224 is common)."
        )
    return height, width


def _chosen(results: Any, folder: Path, output: str | None) -> Any:
    """Return the one of several outputs that is the bottleneck."""
    if not isinstance(results, dict):
        return results
    if output in results:
        return results[output]
    if output is None and (len(results) == 1 or "default" in results):
        return results.get("default", next(iter(results.values())))
    raise BackboneError(f"{folder} has the outputs {sorted(results)}. Name one with --bottleneck_tensor.")
