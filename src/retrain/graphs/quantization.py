"""Rounds the weights of a frozen graph to few values, so that it compresses well or takes a third of the bytes.

The weights of each output channel are first brought to [-1, 1], and what they give is multiplied back: one range for
all channels would leave the small ones a handful of values, which costs a MobileNet a tenth of its accuracy
(Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.1).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrain.graphs import nodes

SMALLEST = 1024  # numbers in a constant worth rounding, as in TensorFlow's own quantize_weights transform
_COMPUTING = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def round_weights(graph_def: nodes.GraphDef, *, bits: int) -> nodes.GraphDef:
    """Return the graph with float32 weights rounded to 2**bits values each: as large, but easily compressed."""
    rounded = _scaled_per_channel(graph_def)
    for node, weights in _weights(rounded):
        numbers, low, step = _steps(weights, bits)
        node.CopyFrom(nodes.constant_node(node.name, (low + numbers * step).astype(np.float32)))
    return rounded


def to_8_bit_weights(graph_def: nodes.GraphDef) -> nodes.GraphDef:
    """Return the graph with weights kept as 8-bit numbers, which it turns into float32 ones when it is run."""
    import tensorflow as tf

    shrunk = _scaled_per_channel(graph_def)
    for node, weights in list(_weights(shrunk)):
        numbers, low, step = _steps(weights, 8)
        name = node.name
        quantized = nodes.constant_node(f"{name}/quantized", numbers.astype(np.uint8), tf.quint8)
        values = {f"{name}/min": low, f"{name}/max": low + 255 * step}
        limits = [nodes.constant_node(limit, np.array(value, np.float32)) for limit, value in values.items()]
        shrunk.node.extend([quantized, *limits])
        node.Clear()
        node.name, node.op = name, "Dequantize"
        node.input[:] = [quantized.name, *(limit.name for limit in limits)]
        node.attr["T"].type, node.attr["mode"].s = tf.quint8.as_datatype_enum, b"MIN_COMBINED"
    return shrunk


def round_layers(graph_def: nodes.GraphDef, *, bits: int) -> nodes.GraphDef:
    """Return the graph with weights and the result of every layer rounded to 2**bits values while it runs.

    It shows what arithmetic of so few bits would do to the accuracy, and is not faster.
    """
    result = round_weights(graph_def, bits=bits)
    layers = {node.name for node in result.node if node.op in _COMPUTING}
    for node in result.node:
        node.input[:] = [f"{name}/rounded" if name in layers else name for name in node.input]
    for name in sorted(layers):
        limits = [nodes.constant_node(f"{name}/{limit}", np.array(0, np.float32)) for limit in ("min", "max")]
        added = result.node.add(name=f"{name}/rounded", op="QuantizeAndDequantizeV2")
        added.input[:] = [name, *(limit.name for limit in limits)]
        added.attr["T"].type = limits[0].attr["dtype"].type
        added.attr["num_bits"].i = bits
        added.attr["range_given"].b = False
        result.node.extend(limits)
    return result


def _scaled_per_channel(graph_def: nodes.GraphDef) -> Any:
    """Return the graph with every large constant weight in [-1, 1], and a multiplication behind its layer."""
    scaled = nodes.copy_of(graph_def)
    weights = {node.name: value for node, value in _weights(scaled)}
    for node in [n for n in scaled.node if n.op in _COMPUTING and nodes.node_name(n.input[1]) in weights]:
        values = weights[nodes.node_name(node.input[1])]
        axes = _inputs_of_a_channel(node, values)
        if axes is None:
            continue
        largest = np.abs(values).max(axis=axes, keepdims=True)
        largest[largest == 0] = 1.0
        name, kind = node.name, node.attr["T"].type
        kernel = nodes.constant_node(f"{name}/weights", values / largest)
        scales = nodes.constant_node(f"{name}/scales", largest.reshape(-1))
        node.name, node.input[1] = f"{name}/unscaled", kernel.name
        product = scaled.node.add(name=name, op="Mul")
        product.input[:] = [node.name, scales.name]
        product.attr["T"].type = kind
        scaled.node.extend([kernel, scales])
    read = {nodes.node_name(name) for node in scaled.node for name in node.input}
    return nodes.with_nodes(scaled, [node for node in scaled.node if node.name not in weights or node.name in read])


def _inputs_of_a_channel(node: Any, weights: np.ndarray) -> tuple[int, ...] | None:
    """Return the axes of weights that belong to one output channel; None where the channels are not the last axis."""
    if nodes.attribute(node, "data_format").s == b"NCHW" or nodes.attribute(node, "transpose_b").b:
        return None
    return (0, 1) if node.op == "DepthwiseConv2dNative" else tuple(range(weights.ndim - 1))


def _weights(graph_def: nodes.GraphDef) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield every large float32 constant, its node and its value."""
    kind = nodes.data_type(np.dtype(np.float32))
    for node in graph_def.node:
        if node.op == "Const" and nodes.attribute(node, "dtype").type == kind:
            value = nodes.array_of(nodes.attribute(node, "value").tensor)
            if value.size >= SMALLEST:
                yield node, value


def _steps(values: np.ndarray, bits: int) -> tuple[np.ndarray, float, float]:
    """Return whole numbers 0 to 2**bits - 1, what 0 stands for, and the step from one to the next."""
    low, high = float(values.min()), float(values.max())
    step = (high - low) / (2**bits - 1) or 1.0
    return np.rint((values.astype(np.float64) - low) / step), low, step
