"""Builds Keras networks for images: the bundled one, those of keras.applications, and `.keras` files."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones.catalogue import DEFAULT, KERAS_APPLICATIONS, OFFICIAL, RANDOM, BackboneSpec
from retrain.backbones.sources import BackboneSource, WeightsRequest, from_path, image_size
from retrain.errors import BackboneError, RetrainError, did_you_mean, first_line
from retrain.formats import limits
from retrain.formats.keras import open_model, pixel_range
from retrain.graphs import editing, freezing
from retrain.graphs.freezing import FrozenGraph
from retrain.preprocessing import InputSpec

_BUNDLED = "weights/mobilenet_bundled.npz"
# The widths that keras.applications publishes weights for; a weights file fits exactly one of them.
_WIDTHS = {"MobileNet": (1.0, 0.75, 0.5, 0.25), "MobileNetV2": (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)}
_MOBILENET_STEM = 32  # filters of the first convolution of MobileNet v1 at width 1.0
_WIDEST_STEM = 4 * _MOBILENET_STEM


@dataclass(frozen=True)
class Network:
    """A backbone as a Keras model up to its bottleneck, which can be trained; `preprocess` comes in front of it.

    `input` holds the range of the pixels that go in, and the name of the node that takes them in a frozen graph, None
    for `freezing.INPUT`.
    """

    model: Any
    preprocess: Callable[[Any], Any] | None
    input: InputSpec


def freeze(network: Network) -> FrozenGraph:
    """Return a network as a frozen graph, batch normalisation in inference mode."""
    frozen = freezing.from_keras(network.model, preprocess=network.preprocess)
    graph, node = frozen.graph_def, network.input.node or freezing.INPUT
    if not any(each.name == node for each in graph.node):
        graph = editing.rename_node(graph, freezing.INPUT, node)
        frozen = replace(frozen, graph_def=graph, input=replace(frozen.input, node=node))
    return replace(frozen, input=frozen.input.filled_from(network.input))


def locate_bundled(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the weights inside the package, or a file of the same layout."""
    return from_path(spec, Path(request.weights or _bundled_weights()))


def has_own_weights(source: BackboneSource) -> bool:
    """Return whether the weights of a network of a name are those that come with it, and no file of the user's."""
    return source.weights in (OFFICIAL, RANDOM, _bundled_weights())


def _bundled_weights() -> str:
    return str(resources.files("retrain.backbones") / _BUNDLED)


def locate_application(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the official weights of a network of keras.applications, random ones, or a file of them."""
    from importlib import metadata

    # The same weights give the same features in any release, but official and random ones come with the release.
    release = metadata.version("keras")
    if request.weights == RANDOM:
        return BackboneSource(spec, RANDOM, f"random {request.seed} {release}", request.seed)
    if request.weights in (None, OFFICIAL):
        return BackboneSource(spec, OFFICIAL, f"imagenet {release}")
    return from_path(spec, Path(request.weights))


def bundled_network(source: BackboneSource) -> Network:
    """Return the bundled network, up to its bottleneck."""
    height, width = source.spec.input.size
    return Network(cut(bundled(source.path, height=height, width=width), source.spec.target), None, source.spec.input)


def application_network(source: BackboneSource) -> Network:
    """Return a network of keras.applications, averaged over the image, up to its bottleneck."""
    name = source.spec.architecture.removeprefix("keras:")
    return Network(cut(_application(name, source), source.spec.target), preprocessing(name), source.spec.input)


def file_network(source: BackboneSource) -> Network:
    """Return the network in a `.keras` or `.h5` file, up to its bottleneck."""
    spec = source.spec
    model = _from_file(source.path, spec.input)
    mean, std = pixel_range(model) or (None, None)
    return Network(cut(model, spec.target), None, spec.input.filled_from(InputSpec(mean=mean, std=std)))


def bundled(weights: Path, *, height: int, width: int) -> Any:
    """Return MobileNet v1 with the weights of an .npz file, one array per variable, named `<layer>/<variable>`.

    The width follows from the first convolution. Images of any size divisible by 32 work.

    Raises:
        BackboneError: The file is not of that layout.
    """
    import keras

    limits.check_weights(weights)
    try:
        with np.load(weights, allow_pickle=False) as opened:
            arrays = {name: np.asarray(opened[name]) for name in opened.files}
        *_, channels = arrays["conv1/kernel"].shape
        if arrays["conv1/kernel"].shape != (3, 3, 3, channels) or not 0 < channels <= _WIDEST_STEM:
            raise ValueError("no first convolution of MobileNet")  # and no network of a million channels is built
    except Exception as error:  # damage in a zip file shows as anything
        raise _layout_error(weights, "not an .npz file of that layout") from error
    alpha = channels / _MOBILENET_STEM
    try:
        body = keras.applications.MobileNet(
            input_shape=(height, width, 3), alpha=alpha, include_top=False, weights=None
        )
        # Keras names a layer by how many were built before: the second in one process would give another graph.
        features = keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d")(body.output)
        model = keras.Model(body.inputs[0], features, name=body.name)
    except ValueError as error:  # the network's own limits on the image size
        raise BackboneError(f"MobileNet refuses {width} x {height} px images: {first_line(error)}.") from error
    try:
        for variable in model.weights:
            variable.assign(arrays["/".join(variable.path.split("/")[-2:])].astype(np.float32))
    except (KeyError, ValueError, TypeError) as error:
        raise _layout_error(weights, first_line(error)) from error
    return model


def _application(name: str, source: BackboneSource) -> Any:
    import keras

    build = getattr(keras.applications, name)
    height, width = source.spec.input.size
    shape = {"input_shape": (height, width, 3), "pooling": "avg", "include_top": False}
    try:
        if source.weights == RANDOM:
            keras.utils.set_random_seed(source.seed)
            return build(weights=None, **shape)
        if source.weights == OFFICIAL:
            return build(weights=OFFICIAL, **shape)
    except ValueError as error:  # the network's own limits on the image size
        raise BackboneError(f"keras:{name} refuses {width} x {height} px images: {first_line(error)}.") from error
    except Exception as error:
        raise _download_error(name, error) from error
    return _with_weights_file(build, name, source.path, shape)


def preprocessing(name: str) -> Callable[[Any], Any] | None:
    """Return what must run in front of an application on pixels 0 to 255, None where a mean and a std do it."""
    mode = KERAS_APPLICATIONS[name].preprocessing
    if mode not in ("caffe", "torch"):
        return None

    def preprocess(pixels: Any) -> Any:
        import keras

        return keras.applications.imagenet_utils.preprocess_input(pixels, data_format="channels_last", mode=mode)

    return preprocess


def _from_file(path: Path, spec: InputSpec) -> Any:
    """Return the model in a `.keras` or `.h5` file, cut before its last dense layer, loaded in safe mode."""
    import keras

    try:
        model = open_model(path)
    except RetrainError:
        raise
    except Exception as error:
        raise BackboneError(f"cannot load {path} as a Keras model: {first_line(error)}.") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.input_shape) != 4 or model.input_shape[-1] != 3:
        raise BackboneError(f"{path} takes {model.input_shape}; a backbone takes one RGB image [N, h, w, 3].")
    fixed = model.input_shape[1:3]
    size = image_size(str(path), fixed, spec)
    output = model.layers[-1].input if isinstance(model.layers[-1], keras.layers.Dense) else model.outputs[0]
    model = keras.Model(model.inputs[0], output)
    if None in fixed:
        image = keras.Input((*size, 3))
        return keras.Model(image, model(image))
    return model


def cut(model: Any, layer: str | None) -> Any:
    """Return a model that ends at one of its layers; itself for None.

    Raises:
        BackboneError: No such layer; names similar ones.
    """
    import keras

    if layer is None:
        return model
    names = [each.name for each in model.layers]
    if layer not in names:
        raise BackboneError(f"the network has no layer {layer!r} for --bottleneck_tensor.{did_you_mean(layer, names)}")
    return keras.Model(model.inputs[0], model.get_layer(layer).output)


def _with_weights_file(build: Any, name: str, file: Path, shape: dict[str, Any]) -> Any:
    """Return the network whose shapes the weights file fits, trying every published width."""
    if not file.is_file():
        raise BackboneError(f"no such weights file: {file}. Leave out --weights to use the official ones.")
    limits.check_weights(file)
    problem = ""
    for options in _options(name, file):
        for load in (_without_top, _with_top):
            try:
                return load(build, file, {**shape, **options})
            except (ValueError, OSError, KeyError) as error:
                problem = problem or first_line(error)
    raise BackboneError(f"the weights in {file} do not fit keras:{name} ({problem}).")


def _options(name: str, file: Path) -> list[dict[str, Any]]:
    """Return the arguments to try, what the official file name says first."""
    if name not in _WIDTHS:
        return [{}]
    named = re.search(r"_(\d+)[._](\d+)_", file.name)
    hint = float(f"{named[1]}.{named[2]}") if named else 1.0
    return [{"alpha": alpha} for alpha in sorted(_WIDTHS[name], key=lambda alpha: abs(alpha - hint))]


def _without_top(build: Any, file: Path, arguments: dict[str, Any]) -> Any:
    model = build(weights=None, **arguments)
    model.load_weights(file)
    return model


def _with_top(build: Any, file: Path, arguments: dict[str, Any]) -> Any:
    """Return the network with the weights of a file that holds a classifier of the usual 1000 classes as well."""
    full_arguments = {key: value for key, value in arguments.items() if key not in ("pooling", "include_top")}
    full = build(weights=None, include_top=True, **full_arguments)
    full.load_weights(file)
    model = build(weights=None, **arguments)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(full.get_layer(layer.name).get_weights())
    return model


def _layout_error(weights: Path, problem: str) -> BackboneError:
    return BackboneError(
        f"{weights} does not hold the weights of a MobileNet v1 ({problem}). "
        f"scripts/pretrain_backbone.py writes such files."
    )


def _download_error(name: str, error: Exception) -> BackboneError:
    url = re.search(r"https?://\S+", str(error))
    where = url[0].rstrip(":.,") if url else f"the official weights of keras:{name}"
    reason = re.sub(r".*?https?://\S+:?\s*(None -- )?", "", first_line(error)) or type(error).__name__
    return BackboneError(
        f"cannot download {where}: {reason}. Put the file into ~/.keras/models yourself or name it with --weights, "
        f"or use --architecture {DEFAULT}, which needs no download."
    )
