"""Rebuilds a frozen graph from Keras' own layers, node by node: to be exported, or to be trained further."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from retrain.errors import GraphError, first_line
from retrain.graphs import editing, nodes

_UNARY = {
    **dict.fromkeys(("Relu", "Relu6", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign", "Softmax"), None),
    **{"Sqrt": "sqrt", "Rsqrt": "rsqrt", "Exp": "exp", "Erf": "erf", "Square": "square", "Neg": "negative"},
    **{"Erfc": "erfc", "Abs": "abs", "Log": "log", "Floor": "floor", "Round": "round", "LeakyRelu": "leaky_relu"},
}
_BINARY = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd"), "add"),
    **dict.fromkeys(("RealDiv", "Div"), "divide"),
    **{"SquaredDifference": "subtract", "Sub": "subtract", "Mul": "multiply"},
    **{"Maximum": "maximum", "Minimum": "minimum", "Pow": "power"},
}
_MERGING = {"Add": "Add", "AddV2": "Add", "Mul": "Multiply"}
_REDUCING = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min"}
_PASSING = ("Identity", "StopGradient", "CheckNumerics", "PreventGradient", "Snapshot")
_POOLS = {"MaxPool": "MaxPooling2D", "AvgPool": "AveragePooling2D"}
_FAKE_QUANT = "FakeQuantWithMinMaxVars"
_RESERVED = ("image", "scale")  # names of layers that stand in front of a graph's own
_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")  # scopes of functions that were written out: they name nothing


class LayerBuilder:
    """Makes layers for the nodes of a graph, each from those of the nodes that it reads; `result` is the last one's.

    Raises:
        GraphError: There is no layer for a node; says for which.
    """

    def __init__(self, graph: nodes.GraphDef, image: Any, *, source: str, output: str) -> None:
        self._shapes = _output_shapes(graph, source)
        # Shapes are known now; what computes them while a graph runs needs no layers.
        graph = editing.extract(_without_shape_inputs(graph), [output])
        self._nodes = {node.name: node for node in graph.node}
        self._readers = nodes.readers_by_name(graph)
        self._layer_names = _layer_names(self._nodes)
        self._arrays: dict[str, np.ndarray] = {}
        self._values = {source: image}
        for name in nodes.topological_order(graph):
            node = self._nodes[name]
            if node.op != "Const" and name not in self._values:
                self._values[name] = self._layer_for(node)
        self.result = self._values[output]

    def _layer_for(self, node: Any) -> Any:
        try:
            return self._built(node)
        except (GraphError, MemoryError):
            raise
        except Exception as error:  # Keras raises anything where a layer does not take such shapes
            problem = f"its operation {node.op} (node {node.name}) is not as Keras' layers are"
            raise GraphError(f"{problem} ({first_line(error)[:200]})") from error

    def _built(self, node: Any) -> Any:
        build: dict[str, Callable[[Any], Any]] = {
            "Conv2D": self._convolution,
            "DepthwiseConv2dNative": self._convolution,
            "MatMul": self._dense,
            "Concat": self._concatenated,
            "ConcatV2": self._concatenated,
            "AddN": self._summed,
            "Pad": self._padded,
            "Squeeze": self._reshaped,
            "ExpandDims": self._reshaped,
            "StridedSlice": self._sliced,
            "Transpose": self._transposed,
            "Pack": self._stacked,
            "Reshape": self._reshaped,
            _FAKE_QUANT: self._rounded,
            **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), self._normalised),
            **dict.fromkeys(_POOLS, self._pooled),
            **dict.fromkeys(_UNARY, self._unary),
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_REDUCING, self._reduced),
            **dict.fromkeys(_PASSING, lambda node: self._input(node)),
        }
        if node.op not in build:
            raise GraphError(f"Keras has no layer for its operation {node.op} (node {node.name})")
        if nodes.attribute(node, "data_format").s == b"NCHW":
            raise GraphError(
                f"its operation {node.op} (node {node.name}) has the channels in front of height and width"
            )
        return build[node.op](node)

    def _input(self, node: Any, index: int = 0) -> Any:
        name = nodes.node_name(node.input[index])
        if name not in self._values:
            raise GraphError(
                f"its operation {node.op} (node {node.name}) reads a constant ({name}) as if it was an image"
            )
        return self._values[name]

    def _constant(self, node: Any, index: int) -> np.ndarray | None:
        """Return the constant that a node reads, None where it reads something else."""
        import tensorflow as tf

        name = nodes.node_name(node.input[index])
        if self._nodes[name].op != "Const":
            return None
        if name not in self._arrays:
            self._arrays[name] = tf.make_ndarray(nodes.attribute(self._nodes[name], "value").tensor)
        return self._arrays[name]

    def _weights(self, node: Any, index: int) -> np.ndarray:
        weights = self._constant(node, index)
        if weights is None:
            raise GraphError(f"its operation {node.op} (node {node.name}) computes the weights that it works with")
        return weights

    def _bias(self, node: Any, channels: int) -> tuple[Any, np.ndarray] | None:
        """Return the node that alone reads another and adds a number to each of its channels, and the numbers."""
        readers = self._readers.get(node.name, [])
        if len(readers) != 1 or readers[0].op not in ("BiasAdd", "Add", "AddV2"):
            return None
        sides = [i for i in (0, 1) if nodes.node_name(readers[0].input[i]) != node.name]
        bias = self._constant(readers[0], sides[0]) if len(sides) == 1 else None
        return None if bias is None or bias.shape != (channels,) else (readers[0], bias)

    def _with_bias(self, node: Any, layer: Any, kernel: np.ndarray, layer_input: Any) -> Any:
        """Return what a layer with a kernel gives, its bias included where it has one."""
        depthwise = node.op == "DepthwiseConv2dNative"
        bias = self._bias(node, kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[-1])
        layer.use_bias = bias is not None
        result = layer(layer_input)
        layer.set_weights([kernel] if bias is None else [kernel, bias[1]])
        if bias is not None:
            self._values[bias[0].name] = result
        return result

    def _convolution(self, node: Any) -> Any:
        import keras

        kernel, layer_input, name = self._weights(node, 1), self._input(node), self._layer_names[node.name]
        (_, *strides, _), (_, *dilations, _) = (
            nodes.attribute(node, "strides").list.i,
            nodes.attribute(node, "dilations").list.i,
        )
        padding = nodes.attribute(node, "padding").s.decode().lower()
        if padding == "explicit":
            around = list(nodes.attribute(node, "explicit_paddings").list.i)
            layer_input, padding = (
                keras.layers.ZeroPadding2D((around[2:4], around[4:6]), name=f"{name}_padding")(layer_input),
                "valid",
            )
        options = {"strides": strides, "padding": padding, "dilation_rate": dilations, "name": name}
        if node.op == "Conv2D":
            groups = layer_input.shape[-1] // kernel.shape[2]
            layer = keras.layers.Conv2D(kernel.shape[3], kernel.shape[:2], groups=groups, **options)
        else:
            layer = keras.layers.DepthwiseConv2D(kernel.shape[:2], depth_multiplier=kernel.shape[3], **options)
        return self._with_bias(node, layer, kernel, layer_input)

    def _dense(self, node: Any) -> Any:
        import keras

        weights = self._weights(node, 1)
        matrix = weights.T if nodes.attribute(node, "transpose_b").b else weights
        dense = keras.layers.Dense(matrix.shape[1], name=self._layer_names[node.name])
        return self._with_bias(node, dense, matrix, self._input(node))

    def _normalised(self, node: Any) -> Any:
        import keras

        if nodes.attribute(node, "is_training").b:
            raise GraphError(f"its operation {node.op} (node {node.name}) normalises by each batch, as in training")
        layer = keras.layers.BatchNormalization(
            epsilon=nodes.attribute(node, "epsilon").f, name=self._layer_names[node.name]
        )
        result = layer(self._input(node))
        layer.set_weights([self._weights(node, index) for index in (1, 2, 3, 4)])
        return result

    def _pooled(self, node: Any) -> Any:
        import keras

        (_, *size, _), (_, *strides, _) = nodes.attribute(node, "ksize").list.i, nodes.attribute(node, "strides").list.i
        padding = nodes.attribute(node, "padding").s.decode().lower()
        pool = getattr(keras.layers, _POOLS[node.op])
        return pool(size, strides=strides, padding=padding, name=self._layer_names[node.name])(self._input(node))

    def _unary(self, node: Any) -> Any:
        import keras

        if _UNARY[node.op] is None:
            return keras.layers.Activation(node.op.lower(), name=self._layer_names[node.name])(self._input(node))
        if node.op == "Erfc":
            return 1 - keras.ops.erf(self._input(node))
        more = [nodes.attribute(node, "alpha").f] if node.op == "LeakyRelu" else []
        return getattr(keras.ops, _UNARY[node.op] or "")(self._input(node), *more)

    def _binary(self, node: Any) -> Any:
        import keras

        sides = [self._constant(node, index) for index in (0, 1)]
        values = [self._input(node, i) if side is None else _as_number(side) for i, side in enumerate(sides)]
        merged = all(side is None for side in sides) and len(values[0].shape) == len(values[1].shape)
        if node.op in _MERGING and merged:
            return getattr(keras.layers, _MERGING[node.op])(name=self._layer_names[node.name])(values)
        if node.op == "SquaredDifference":
            return keras.ops.square(keras.ops.subtract(*values))
        return getattr(keras.ops, _BINARY[node.op])(*values)

    def _reduced(self, node: Any) -> Any:
        import keras

        axes = sorted(int(axis) for axis in np.atleast_1d(self._weights(node, 1)))
        keep, layer_input = bool(nodes.attribute(node, "keep_dims").b), self._input(node)
        if node.op == "Mean" and axes == [1, 2]:
            return keras.layers.GlobalAveragePooling2D(keepdims=keep, name=self._layer_names[node.name])(layer_input)
        return getattr(keras.ops, _REDUCING[node.op])(layer_input, axis=axes, keepdims=keep)

    def _reshaped(self, node: Any) -> Any:
        import keras

        # One operation in a graph, where a Reshape layer, which asks for the number of images, is four.
        return keras.ops.reshape(self._input(node), self._shapes[node.name])

    def _sliced(self, node: Any) -> Any:
        """Return a part of a tensor, by the masks of a StridedSlice.

        https://www.tensorflow.org/api_docs/python/tf/strided_slice
        """
        begin, end, strides = (self._weights(node, index).tolist() for index in (1, 2, 3))

        def masked(name: str, axis: int) -> bool:
            return bool(nodes.attribute(node, name).i >> axis & 1)

        def part(axis: int) -> Any:
            if masked("ellipsis_mask", axis):
                return Ellipsis
            if masked("new_axis_mask", axis):
                return None
            if masked("shrink_axis_mask", axis):
                return begin[axis]
            first = None if masked("begin_mask", axis) else begin[axis]
            return slice(first, None if masked("end_mask", axis) else end[axis], strides[axis])

        return self._input(node)[tuple(part(axis) for axis in range(len(begin)))]

    def _concatenated(self, node: Any) -> Any:
        import keras

        last = len(node.input) - 1
        # TensorFlow had the axis in front in 2015.
        place, inputs = (0, range(1, last + 1)) if node.op == "Concat" else (last, range(last))
        parts = [self._input(node, index) for index in inputs]
        return keras.layers.Concatenate(int(self._weights(node, place)), name=self._layer_names[node.name])(parts)

    def _summed(self, node: Any) -> Any:
        import keras

        parts = [self._input(node, index) for index in range(len(node.input))]
        return keras.layers.Add(name=self._layer_names[node.name])(parts) if len(parts) > 1 else parts[0]

    def _stacked(self, node: Any) -> Any:
        import keras

        return keras.ops.stack(
            [self._input(node, index) for index in range(len(node.input))], nodes.attribute(node, "axis").i
        )

    def _transposed(self, node: Any) -> Any:
        import keras

        return keras.ops.transpose(self._input(node), self._weights(node, 1).tolist())

    def _padded(self, node: Any) -> Any:
        import keras

        around = self._weights(node, 1).tolist()
        if len(around) == 4 and around[0] == around[3] == [0, 0]:
            pad = keras.layers.ZeroPadding2D((tuple(around[1]), tuple(around[2])), name=self._layer_names[node.name])
            return pad(self._input(node))
        return keras.ops.pad(self._input(node), around)

    def _rounded(self, node: Any) -> Any:
        """Return values rounded as fake quantisation does it, its range nudged so that 0 is one of them.

        https://www.tensorflow.org/api_docs/python/tf/quantization/fake_quant_with_min_max_vars. As there, gradients
        pass as if nothing was rounded ("Estimating or Propagating Gradients", Bengio et al., 2013).
        """
        import keras

        bits, narrow = nodes.attribute(node, "num_bits").i, int(nodes.attribute(node, "narrow_range").b)
        # In float32 as there: of a picture's pixels, each may lie half-way between two values.
        smallest, largest = (np.float32(self._weights(node, index)) for index in (1, 2))
        levels = np.float32(2**bits - 1 - narrow)
        step = (largest - smallest) / levels
        zero = np.clip(np.floor(-smallest / step + np.float32(0.5)), 0, levels)
        low, high, scale = float(-zero * step), float((levels - zero) * step), float(step)
        clipped = keras.ops.clip(self._input(node), low, high)
        rounded = keras.ops.floor((clipped - low) / scale + 0.5) * scale + low
        return clipped + keras.ops.stop_gradient(rounded - clipped)


def _without_shape_inputs(graph: nodes.GraphDef) -> nodes.GraphDef:
    """Return the graph with nothing read for the shapes of Reshape nodes."""
    plain = nodes.copy_of(graph)
    for node in plain.node:
        if node.op == "Reshape":
            del node.input[1:]
    return plain


def _output_shapes(graph: nodes.GraphDef, source: str) -> dict[str, tuple[int, ...]]:
    """Return the shape that each node that reshapes gives, -1 for what grows with the number of images."""
    import tensorflow as tf

    names = [node.name for node in graph.node if node.op in ("Reshape", "Squeeze", "ExpandDims")]
    with tf.Graph().as_default() as opened, tf.compat.v1.Session(graph=opened) as session:
        tf.graph_util.import_graph_def(nodes.in_tensorflow(graph), name="")
        layer_input = opened.get_tensor_by_name(f"{source}:0")
        shapes = [tf.shape(opened.get_tensor_by_name(f"{name}:0")) for name in names]
        one, two = (
            session.run(shapes, {layer_input: np.zeros((n, *layer_input.shape[1:]), np.float32)}) for n in (1, 2)
        )
    pairs = zip(names, one, two, strict=True)
    return {name: tuple(np.where(a == b, a, -1).tolist()) for name, a, b in pairs}


def _as_number(value: np.ndarray) -> Any:
    """Return a constant as a number where it is one: it goes into the file's JSON."""
    return float(value.reshape(-1)[0]) if value.size == 1 else value


def _layer_names(names: Iterable[str]) -> dict[str, str]:
    """Return a layer's name for each node's: its scopes joined by underscores, those that say nothing new left out.

    `MobilenetV1/MobilenetV1/Conv2d_0/convolution` is `MobilenetV1_Conv2d_0_convolution`.
    """
    found: dict[str, str] = {}
    taken = set(_RESERVED)
    for name in names:
        scopes = [part for part in name.split("/") if not _CALL.fullmatch(part)] or [name]
        told = [part for part, before in zip(scopes, ["", *scopes], strict=False) if part != before]
        plain = wanted = re.sub(r"[^\w.-]", "_", "_".join(told))
        number = 0
        while plain in taken:
            number += 1
            plain = f"{wanted}_{number}"
        taken.add(plain)
        found[name] = plain
    return found
