"""Keras networks split in two: layers that stay frozen, and the layers above them that are trained further."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.errors import UsageError


@dataclass(frozen=True)
class TrainableLayers:
    """The upper part of a network.

    `name` is that of its first layer. `inputs` are the tensors that it takes from the frozen part, and `model` computes
    the bottleneck from them. The store keeps them flattened and concatenated; `sizes` are their lengths.
    """

    name: str
    inputs: Sequence[Any]
    model: Any
    shapes: Sequence[tuple[int, ...]]

    @property
    def sizes(self) -> list[int]:
        """Return how many numbers each tensor of one image has."""
        return [int(np.prod(shape)) for shape in self.shapes]

    def bottlenecks(self, flat: Any) -> Any:
        """Return the bottlenecks [N, D] of images from the frozen part's flat output, float32 [N, sum of sizes].

        Batch normalisation and dropout are in inference mode.
        """
        import tensorflow as tf

        parts = tf.split(flat, self.sizes, axis=1)
        tensors = [tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.model(tensors[0] if len(tensors) == 1 else tensors, training=False)


def split_network(model: Any, start: str) -> TrainableLayers:
    """Return a network's layers from one on, their weights shared with the network.

    Args:
        model: A Keras model of one image and one vector.
        start: A layer's name, the beginning of a block's layers' names, or a number of layers from the top.

    Raises:
        UsageError: No such layer; names similar ones.
    """
    import keras

    first = _index(model, start)
    inside = {id(layer) for layer in model.layers[first:]}
    inputs: dict[int, Any] = {}
    for layer in model.layers[first:]:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                if id(tensor._keras_history.operation) not in inside:
                    inputs[id(tensor)] = tensor
    tensors = list(inputs.values())
    shapes = [tuple(int(size) for size in tensor.shape[1:]) for tensor in tensors]
    upper = keras.Model(tensors[0] if len(tensors) == 1 else tensors, model.outputs[0])
    return TrainableLayers(model.layers[first].name, tensors, upper, shapes)


def frozen_part(model: Any, layers: TrainableLayers) -> Any:
    """Return the Keras model of the frozen layers, from the image to what the trainable ones take."""
    import keras

    return keras.Model(model.inputs[0], list(layers.inputs))


def list_layers(model: Any) -> list[str]:
    """Return a line for each layer of a network: its number from the top, name, kind, output and parameters."""
    count = len(model.layers)
    width = max(len(layer.name) for layer in model.layers)
    rows = [f"{'from top':>8}  {'layer':<{width}}  {'kind':<22}  {'output':<18}  parameters"]
    for number, layer in enumerate(model.layers):
        shape = " x ".join(str(size) for size in layer.output.shape[1:])
        kind = type(layer).__name__
        rows.append(f"{count - number:>8}  {layer.name:<{width}}  {kind:<22}  {shape:<18}  {layer.count_params():,}")
    return rows


def _index(model: Any, start: str) -> int:
    names = [layer.name for layer in model.layers]
    if start.isdigit():
        if not 1 <= int(start) < len(names):
            raise UsageError(f"--fine_tune_from is {start}; the network has {len(names)} layers, its input among them.")
        return len(names) - int(start)
    for number, name in enumerate(names):
        if number and (name == start or name.startswith(f"{start}_")):
            return number
    near = difflib.get_close_matches(start, names, n=3)
    hint = f" Similar ones: {', '.join(near)}." if near else ""
    raise UsageError(
        f"the network has no layer or block {start!r} for --fine_tune_from.{hint} --list_layers lists all."
    )
