"""SavedModels and TF-Hub modules, of TensorFlow 1 and 2, as frozen graphs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from retrain.backbones.catalogue import DEFAULT, HUB_INPUT, BackboneSpec
from retrain.backbones.sources import BackboneSource, WeightsRequest, from_path, image_size
from retrain.errors import BackboneError, DownloadError, first_line
from retrain.graphs import freezing
from retrain.graphs.editing import rename_node
from retrain.graphs.freezing import FrozenGraph
from retrain.graphs.nodes import from_tensorflow, node_name
from retrain.graphs.reading import read_saved_model
from retrain.preprocessing import InputSpec

PLACEHOLDER = "Placeholder"  # where a graph that the original exported from such a module takes its image
_SIGNATURES = ("default", "serving_default")  # TF-Hub's name of TensorFlow 1 first


def locate(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the local folder of a TF-Hub module, downloaded into TF-Hub's own cache if it is a URL."""
    handle = spec.architecture
    if "://" not in handle:
        return from_path(spec, Path(handle))
    import tensorflow_hub as hub

    try:
        folder = Path(hub.resolve(handle))
    except Exception as error:
        raise DownloadError(
            f"cannot download {handle}: {first_line(error)}. Download and unpack the module yourself and give its "
            f"folder to --tfhub_module, or use --architecture {DEFAULT}, which needs no download."
        ) from error
    return from_path(spec, folder)


def freeze(source: BackboneSource) -> FrozenGraph:
    """Return a SavedModel or an unpacked TF-Hub module, of TensorFlow 1 or 2, as a frozen graph."""
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
        height, width = image_size(str(folder), (None, None), spec)
        return freezing.from_function(
            lambda pixels: _select_output(_called(loaded, pixels), folder, output), height, width
        )
    shapes = {name: tensor.shape for name, tensor in signature.structured_input_signature[1].items()}
    argument, height, width = _only_image(folder, shapes, spec)
    return freezing.from_function(
        lambda pixels: _select_output(signature(**{argument: pixels}), folder, output), height, width
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
    argument, height, width = _only_image(folder, shapes, spec)
    target = node_name(_select_output(dict(signature.outputs), folder, output).name)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.saved_model.load(session, list(meta_graph.meta_info_def.tags), str(folder))
        graph_def = v1.graph_util.convert_variables_to_constants(session, session.graph_def, [target])
    source = node_name(signature.inputs[argument].name)
    return freezing.from_graph_def(from_tensorflow(graph_def), InputSpec(source, height, width), target=target)


def _called(loaded: Any, pixels: Any) -> Any:
    """Return the result of a loaded object, in inference mode where it knows modes."""
    try:
        return loaded(pixels, training=False)
    except (TypeError, ValueError):  # the call was saved without such an argument
        return loaded(pixels)


def _only_image(folder: Path, shapes: dict[str, Any], spec: InputSpec) -> tuple[str, int, int]:
    """Return the name of a signature's one input, and the height and width of its images."""
    if len(shapes) != 1 or next(iter(shapes.values())).rank not in (4, None):
        raise BackboneError(f"{folder} takes {sorted(shapes)}; a backbone takes one batch of images [N, h, w, 3].")
    ((argument, shape),) = shapes.items()
    return argument, *image_size(str(folder), (None, None) if shape.rank is None else shape[1:3], spec)


def _select_output(results: Any, folder: Path, output: str | None) -> Any:
    """Return the one of several outputs that is the bottleneck."""
    if not isinstance(results, dict):
        return results
    if output in results:
        return results[output]
    if output is None and (len(results) == 1 or "default" in results):
        return results.get("default", next(iter(results.values())))
    raise BackboneError(f"{folder} has the outputs {sorted(results)}. Name one with --bottleneck_tensor.")
