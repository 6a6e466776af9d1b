"""SavedModels and TF-Hub modules, of TensorFlow 1 and 2, as frozen graphs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from retrain.backbones.catalogue import HUB_INPUT, BackboneSpec
from retrain.backbones.sources import BackboneSource, WeightsRequest, from_path
from retrain.errors import BackboneError, DownloadError, first_line
from retrain.graphs import freezing
from retrain.graphs.editing import rename_node
from retrain.graphs.freezing import FrozenGraph
from retrain.graphs.nodes import node_name
from retrain.graphs.reading import read_saved_model
from retrain.preprocessing import InputSpec

PLACEHOLDER = "Placeholder"  # where a graph that the original exported from such a module takes its image
_SIGNATURES = ("default", "serving_default")  # TF-Hub's name of TensorFlow 1 first


def locate(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the local folder of a TF-Hub module, downloaded into TF-Hub's own cache if it is a URL.

    Raises:
        DownloadError: It cannot be downloaded.
        BackboneError: It cannot be read.
    """
    handle = spec.architecture
    if "://" not in handle:
        return from_path(spec, Path(handle))
    import tensorflow_hub as hub

    try:
        folder = Path(hub.resolve(handle))
    except Exception as error:
        raise DownloadError(
            f"cannot download {handle}: {first_line(error)}. Download and unpack the module yourself and give its "
            f"folder to --tfhub_module, or use --architecture mobilenet_bundled, which needs no download."
        ) from error
    return from_path(spec, folder)


def freeze(source: BackboneSource) -> FrozenGraph:
    """Return a SavedModel or an unpacked TF-Hub module, of TensorFlow 1 or 2, as a frozen graph.

    Raises:
        GraphError: Refused by the allow-list.
        BackboneError: Not one image in and one vector out, or an unknown size.
    """
    spec, folder = source.spec, source.path
    output = node_name(spec.target) if spec.target else None
    model = read_saved_model(folder)
    if any(meta_graph.HasField("object_graph_def") for meta_graph in model.meta_graphs):
        frozen = _load_tf2(folder, spec.input, output)
    else:
        frozen = _load_tf1(folder, model, spec.input, output)
    renamed = rename_node(frozen.graph_def, frozen.input.node or "", PLACEHOLDER)
    network_input = replace(frozen.input, node=PLACEHOLDER).filled_from(spec.input).filled_from(HUB_INPUT)
    return replace(frozen, graph_def=renamed, input=network_input)


def _load_tf2(folder: Path, spec: InputSpec, output: str | None) -> FrozenGraph:
    import tensorflow_hub as hub

    loaded = hub.load(str(folder))  # held until the graph is frozen: its variables live in it
    signature = next((loaded.signatures[name] for name in _SIGNATURES if name in loaded.signatures), None)
    if signature is None and not callable(loaded):
        raise BackboneError(f"{folder} has no signature {' or '.join(_SIGNATURES)} and cannot be called.")
    if signature is None:
        return freezing.from_function(
            lambda pixels: _select_output(_called(loaded, pixels), folder, output), *_size(folder, None, spec)
        )
    argument, shape = _only_image(folder, {k: v.shape for k, v in signature.structured_input_signature[1].items()})
    return freezing.from_function(
        lambda pixels: _select_output(signature(**{argument: pixels}), folder, output), *_size(folder, shape, spec)
    )


def _load_tf1(folder: Path, model: Any, spec: InputSpec, output: str | None) -> FrozenGraph:
    """Freeze a model of TensorFlow 1 in a session, which also reads the variables that TensorFlow 2 cannot."""
    import tensorflow as tf

    v1 = tf.compat.v1
    meta_graph = min(model.meta_graphs, key=lambda each: "train" in each.meta_info_def.tags)
    signature = next((meta_graph.signature_def[n] for n in _SIGNATURES if n in meta_graph.signature_def), None)
    if signature is None:
        raise BackboneError(f"{folder} has no signature {' or '.join(_SIGNATURES)}.")
    shapes = {name: tf.TensorShape(info.tensor_shape) for name, info in signature.inputs.items()}
    argument, shape = _only_image(folder, shapes)
    height, width = _size(folder, shape, spec)
    target = node_name(_select_output(dict(signature.outputs), folder, output).name)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, list(meta_graph.meta_info_def.tags), str(folder))
        graph_def = v1.graph_util.convert_variables_to_constants(session, session.graph_def, [target])
    source = node_name(signature.inputs[argument].name)
    return freezing.from_graph_def(graph_def, InputSpec(source, height, width), target=target)


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


def _size(folder: Path, shape: Any, spec: InputSpec) -> tuple[int, int]:
    """Return height and width of the images that a model takes: its own, or the user's where it takes any."""
    fixed = (None, None) if shape is None or shape.rank is None else (shape[1], shape[2])
    if any(own and asked and own != asked for own, asked in zip(fixed, spec.size, strict=True)):
        raise BackboneError(f"{folder} takes {fixed[1]} x {fixed[0]} px images and no other size.")
    height, width = fixed[0] or spec.height, fixed[1] or spec.width
    if not height or not width:
        raise BackboneError(
            f"{folder} takes images of any size. Say which with --input_height and --input_width (224 is common)."
        )
    return height, width


def _select_output(results: Any, folder: Path, output: str | None) -> Any:
    """Return the one of several outputs that is the bottleneck."""
    if not isinstance(results, dict):
        return results
    if output in results:
        return results[output]
    if output is None and (len(results) == 1 or "default" in results):
        return results.get("default", next(iter(results.values())))
    raise BackboneError(f"{folder} has the outputs {sorted(results)}. Name one with --bottleneck_tensor.")
