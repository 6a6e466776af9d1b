"""Keras networks split in two: layers that stay frozen, and the layers above them that are trained further."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from retrain.errors import UsageError

ALL = "all"  # in place of a layer: the whole network
_OFFERED = 3  # names for one that is unknown


@dataclass(frozen=True)
class TrainableLayers:
    """The upper part of a network.

    `name` is that of its first layer, `all` for the whole network. `inputs` are the tensors that it takes from the
    frozen part, and `model` computes the bottleneck from them. The store keeps them flattened and concatenated; `sizes`
    are their lengths.
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
        start: A layer's name, the beginning of a block's layers' names, a number of layers from the top, or `all`.

    Raises:
        UsageError: No such layer; names similar ones.
    """
    import keras

    # Sorted so that each comes after those whose results it takes; not all are layers, as a sum of two tensors.
    operations = model.operations
    name = ALL if start == ALL else model.layers[_index(model, start)].name
    first = 1 if start == ALL else next(n for n, each in enumerate(operations) if each.name == name)
    inside = {id(operation) for operation in operations[first:]}
    inputs: dict[int, Any] = {}
    for node in chain.from_iterable(model._nodes_by_depth.values()):
        if id(node.operation) in inside:
            outside = [each for each in node.input_tensors if id(each._keras_history.operation) not in inside]
            inputs |= {id(tensor): tensor for tensor in outside}
    tensors = sorted(inputs.values(), key=lambda tensor: operations.index(tensor._keras_history.operation))
    shapes = [tuple(int(size) for size in tensor.shape[1:]) for tensor in tensors]
    upper = keras.Model(tensors[0] if len(tensors) == 1 else tensors, model.outputs[0])
    return TrainableLayers(name, tensors, upper, shapes)


def is_whole(model: Any, layers: TrainableLayers) -> bool:
    """Return whether layers are all of a network: nothing of it is frozen."""
    return [id(tensor) for tensor in layers.inputs] == [id(tensor) for tensor in model.inputs]


def frozen_part(model: Any, layers: TrainableLayers) -> Any:
    """Return the Keras model of the frozen layers, from the image to what the trainable ones take."""
    import keras

    return keras.Model(model.inputs[0], list(layers.inputs))


def list_layers(model: Any) -> list[str]:
    """Return a line for each layer of a network: its number from the top, name, kind, output and parameters.

    The first lines say what can be made of them.
    """
    count = len(model.layers)
    width = max(len(layer.name) for layer in model.layers)
    rows = [
        "--fine_tune_from takes a layer, the first words of the names of a block's layers, a number from the top, or "
        f"{ALL} for the whole network.",
        f"{'from top':>8}  {'layer':<{width}}  {'kind':<22}  {'output':<18}  parameters",
    ]
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
    word = start.lower().replace("/", "_")
    near = [name for name in names if word in name.lower()][:_OFFERED] or difflib.get_close_matches(
        start, names, n=_OFFERED
    )
    hint = f" Similar ones: {', '.join(near)}." if near else ""
    raise UsageError(
        f"the network has no layer or block {start!r} for --fine_tune_from.{hint} --list_layers lists them; {ALL} is "
        f"the whole network."
    )
