"""Folds constants and batch normalisation in a frozen graph.

Batch normalisation becomes part of the convolution before it, or else a multiplication and an addition, so that
loaders of TensorFlow 1 know every operation and phones have fewer to run.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.graphs import nodes
from retrain.graphs.nodes import GraphDef, constant_node, node_name, with_nodes

_IDENTITIES = frozenset("Identity IdentityN CheckNumerics StopGradient PreventGradient Snapshot EnsureShape".split())
_CONTROL_FLOW = frozenset("Switch Merge Enter Exit NextIteration LoopCond".split())
_LINEAR = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_LEGACY_BATCH_NORM = "BatchNormWithGlobalNormalization"
_ADDITIONS = ("Add", "AddV2", "BiasAdd")


@dataclass(frozen=True)
class _Affine:
    """`x * scale + offset` over the last axis, float64 [C] or [1]."""

    scale: np.ndarray
    offset: np.ndarray

    def then(self, other: "_Affine") -> "_Affine":
        """Return this one followed by the other."""
        return _Affine(self.scale * other.scale, self.offset * other.scale + other.offset)


def simplify(graph_def: GraphDef, *, keep: Sequence[str]) -> GraphDef:
    """Return a graph of the same results, to rounding, with batch normalisation folded into convolutions.

    Args:
        graph_def: A frozen graph for inference; it is not changed. One with control flow is returned as it is.
        keep: Nodes that keep their names and values; nodes that none of them needs are left out.
    """
    if any(node.op in _CONTROL_FLOW for node in graph_def.node):
        return graph_def
    return _Rewriter(fold_constants(_without_identities(graph_def, keep)), keep).rewritten()


def _without_identities(graph_def: GraphDef, keep: Sequence[str]) -> GraphDef:
    """Return the graph without nodes that only pass on their input, and without control edges."""
    passed = {n.name: n.input for n in graph_def.node if n.op in _IDENTITIES and n.name not in keep and n.input}

    def origin(tensor: str) -> str:
        seen: set[str] = set()  # a damaged graph may have a loop, which TensorFlow will refuse
        while (name := node_name(tensor)) in passed and name not in seen:
            seen.add(name)
            _, _, output = nodes.tensor_name(tensor).rpartition(":")
            tensor = passed[name][int(output)]
        return tensor

    direct = with_nodes(graph_def, [node for node in graph_def.node if node.name not in passed])
    for node in direct.node:
        node.input[:] = [origin(tensor) for tensor in node.input if not tensor.startswith("^")]
    return with_nodes(direct, nodes.needed_nodes(direct, keep))


class _Rewriter:
    """A graph while it is rewritten in place."""

    def __init__(self, graph_def: GraphDef, keep: Sequence[str]) -> None:
        self._graph_def, self._keep = graph_def, {node_name(name) for name in keep}
        self._nodes = {node.name: node for node in graph_def.node}
        self._added: list[Any] = []
        self._readers = nodes.readers_by_name(graph_def)

    def rewritten(self) -> GraphDef:
        for node in self._graph_def.node:
            if node.op in _LINEAR:
                self._fold_into(node)
        for node in self._graph_def.node:
            if node.op in (*_FUSED, _LEGACY_BATCH_NORM) and (affine := self._affine(node)):
                self._to_mul_and_add(node, affine)
            elif node.op == "AddV2":
                node.op = "Add"
        self._graph_def.node.extend(self._added)
        return with_nodes(self._graph_def, nodes.needed_nodes(self._graph_def, sorted(self._keep)))

    def _fold_into(self, linear: Any) -> None:
        """Fold the nodes that only scale and shift the result of a linear operation into its weights and one bias."""
        weights = self._value(linear.input[1])
        if weights is None or _channels_first(linear):
            return
        shape = _channel_shape(linear, weights)
        channels, whole = math.prod(shape), _Affine(np.ones(1), np.zeros(1))
        folded, last = 0, linear
        while (reader := self._only_reader(last)) is not None:
            affine = self._affine(reader, of=last.name)
            if affine is None or not {affine.scale.size, affine.offset.size} <= {1, channels}:
                break
            whole, last, folded = whole.then(affine), reader, folded + 1
        if not folded or (whole.scale == 1).all() and folded == 1:
            return
        scale = np.broadcast_to(whole.scale, channels).reshape(shape)
        linear.input[1] = self._constant(f"{linear.name}/folded_weights", weights * scale)
        last.op = "BiasAdd"
        bias = self._constant(f"{last.name}/folded_bias", np.broadcast_to(whole.offset, channels))
        last.input[:] = [linear.name, bias]
        data_type = linear.attr["T"].type
        last.attr.clear()
        last.attr["T"].type = data_type

    def _to_mul_and_add(self, norm: Any, affine: _Affine) -> None:
        """Turn a batch normalisation that follows no convolution into a multiplication and an addition."""
        data_type = norm.attr["T"].type
        product = type(norm)(name=f"{norm.name}/scaled", op="Mul")
        product.input[:] = [norm.input[0], self._constant(f"{norm.name}/scale", affine.scale)]
        product.attr["T"].type = data_type
        self._added.append(product)
        norm.op = "Add"
        norm.input[:] = [product.name, self._constant(f"{norm.name}/offset", affine.offset)]
        norm.attr.clear()
        norm.attr["T"].type = data_type

    def _only_reader(self, node: Any) -> Any:
        readers = self._readers.get(node.name, [])
        return readers[0] if len(readers) == 1 and node.name not in self._keep else None

    def _affine(self, node: Any, of: str | None = None) -> _Affine | None:
        """Return how a node scales and shifts the output of node `of` (its first input), None if it does more."""
        if node.op in (*_FUSED, _LEGACY_BATCH_NORM):
            return self._normalisation(node)
        if node.op not in ("Mul", "Sub", "RealDiv", *_ADDITIONS) or len(node.input) != 2:
            return None
        first = node_name(node.input[0]) == of
        constant = self._vector(node.input[1 if first else 0])
        if constant is None or (node.op == "RealDiv" and not first):
            return None
        one, zero = np.ones(1), np.zeros(1)
        if node.op in _ADDITIONS:
            return _Affine(one, constant)
        if node.op == "Sub":
            return _Affine(one, -constant) if first else _Affine(-one, constant)
        return _Affine(constant if node.op == "Mul" else 1 / constant, zero)

    def _normalisation(self, node: Any) -> _Affine | None:
        vectors = [self._vector(tensor) for tensor in node.input[1:5]]
        read = {tensor for reader in self._readers.get(node.name, []) for tensor in reader.input}
        if any(f"{node.name}:{output}" in read for output in range(1, 6)):
            return None
        if node.op == _LEGACY_BATCH_NORM:
            mean, variance, beta, gamma = vectors
            epsilon = nodes.attribute(node, "variance_epsilon").f
            scaled = nodes.attribute(node, "scale_after_normalization").b
        else:
            if nodes.attribute(node, "is_training").b or _channels_first(node):
                return None
            gamma, beta, mean, variance = vectors
            epsilon, scaled = nodes.attribute(node, "epsilon").f, True
        if mean is None or variance is None or beta is None or gamma is None:
            return None
        scale = (gamma if scaled else 1.0) / np.sqrt(variance + epsilon)
        return _Affine(scale, beta - mean * scale)

    def _vector(self, tensor: str) -> np.ndarray | None:
        """Return a constant as float64 [n] if it lies along the last axis."""
        value = self._value(tensor)
        if value is None or value.ndim > 4 or value.size != (value.shape[-1] if value.ndim else 1):
            return None
        return value.reshape(-1)

    def _value(self, tensor: str) -> np.ndarray | None:
        """Return a floating-point constant as float64, None for anything else."""
        import tensorflow as tf

        node = self._nodes.get(node_name(tensor))
        if node is None or node.op != "Const" or not tf.as_dtype(nodes.attribute(node, "dtype").type).is_floating:
            return None
        return tf.make_ndarray(node.attr["value"].tensor).astype(np.float64)  # type: ignore[no-any-return]

    def _constant(self, name: str, value: np.ndarray) -> str:
        """Add a float32 constant and return its name."""
        name = _unused(name, self._nodes)
        node = constant_node(name, value.astype(np.float32))
        self._nodes[name] = node
        self._added.append(node)
        return name


def _channel_shape(linear: Any, weights: np.ndarray) -> tuple[int, ...]:
    """Return the shape in which one factor for each output channel multiplies the weights."""
    if linear.op == "DepthwiseConv2dNative":
        return weights.shape[2:]
    return (
        (weights.shape[0], 1)
        if linear.op == "MatMul" and nodes.attribute(linear, "transpose_b").b
        else weights.shape[-1:]
    )


def _channels_first(node: Any) -> bool:
    return bool(nodes.attribute(node, "data_format").s == b"NCHW")


def _unused(name: str, names: Container[str]) -> str:
    return _unused(f"{name}_", names) if name in names else name


_NEVER_CONSTANT = ("Placeholder", "PlaceholderWithDefault", "Multinomial", "TruncatedNormal")


def fold_constants(graph_def: GraphDef, *, weights_too: bool = False) -> GraphDef:
    """Return the graph with every node that depends on constants alone replaced by its value.

    Args:
        graph_def: A frozen graph; it is not changed.
        weights_too: Whether 8-bit weights become float32 ones, which LiteRT needs and four times the bytes hold.
    """
    import tensorflow as tf

    by_name = {node.name: node for node in graph_def.node}
    known: set[str] = set()
    for name in nodes.topological_order(graph_def):
        node = by_name[name]
        computed = node.op not in _NEVER_CONSTANT and "Random" not in node.op
        computed &= weights_too or node.op != "Dequantize"
        if node.op == "Const" or (computed and node.input and all(node_name(i) in known for i in node.input)):
            known.add(name)
    folded = {name for name in known if by_name[name].op != "Const"}
    left = [nodes.copy_of(node) for node in graph_def.node if node.name not in known]
    for node in left:  # for what is known there is nothing to wait
        node.input[:] = [i for i in node.input if not (i.startswith("^") and node_name(i) in folded)]
    frontier = sorted({nodes.tensor_name(i) for node in left for i in node.input if node_name(i) in folded})
    # Output 0 keeps the name of its node, the others get one of their own.
    names = {tensor: _unused(tensor.replace(":", "/output_"), by_name) for tensor in frontier}
    names |= {tensor: node_name(tensor) for tensor in frontier if tensor.endswith(":0")}
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(nodes.in_tensorflow(graph_def), name="")
        tensors = [graph.get_tensor_by_name(tensor) for tensor in frontier]
        values = session.run(tensors)
    kept: dict[str, list[Any]] = {node.name: [node] for node in left}
    for tensor, value in zip(tensors, values, strict=True):
        kept.setdefault(tensor.op.name, []).append(constant_node(names[tensor.name], value, tensor.dtype))
    read = {node_name(i) for node in left for i in node.input}
    kept |= {name: [by_name[name]] for name in (known - folded) & read}
    for node in left:
        node.input[:] = [i if i.startswith("^") else names.get(nodes.tensor_name(i), i) for i in node.input]
    return with_nodes(graph_def, [each for node in graph_def.node for each in kept.get(node.name, [])])
