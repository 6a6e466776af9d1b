"""Cuts, renames and rewrites frozen graphs; every function returns a new graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrain.errors import GraphError, did_you_mean
from retrain.graphs.folding import fold_constants
from retrain.graphs.nodes import (
    GraphDef,
    all_nodes,
    copy_of,
    data_type,
    in_tensorflow,
    needed_nodes,
    node_name,
    tensor_name,
    with_nodes,
)
from retrain.preprocessing import InputSpec


def cut(graph_def: GraphDef, spec: InputSpec, *, target: str) -> GraphDef:
    """Return the part of a graph between two nodes, with a float32 placeholder in place of the first.

    Args:
        graph_def: A frozen graph; it is not changed.
        spec: Its node takes the images; the placeholder gets its name and the shape [None, height, width, 3].
        target: Node to keep together with all that it needs.

    Raises:
        GraphError: One of both nodes is not there; names similar ones.
    """
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    placeholder = NodeDef(name=spec.node, op="Placeholder")
    placeholder.attr["dtype"].type = data_type(np.dtype(np.float32))
    for side in (-1, spec.height or -1, spec.width or -1, 3):
        placeholder.attr["shape"].shape.dim.add(size=side)
    _check_nodes(graph_def, [placeholder.name, target])
    nodes = [placeholder if node.name == spec.node else node for node in graph_def.node]
    return extract(with_nodes(graph_def, nodes), [target])


def as_function(graph_def: GraphDef, *, source: str, target: str) -> Any:
    """Return the part of a graph between two nodes as a function that TensorFlow can call and convert."""
    import tensorflow as tf

    loaded = in_tensorflow(graph_def)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(loaded, name=""), [])
    tensors = [wrapped.graph.get_tensor_by_name(tensor_name(name)) for name in (source, target)]
    return wrapped.prune(*tensors)


def rename_node(graph_def: GraphDef, old: str, new: str) -> GraphDef:
    """Return the graph with another name for one of its nodes."""
    changed = copy_of(graph_def)
    for node in changed.node:
        node.name = new if node.name == old else node.name
        node.input[:] = [name.replace(old, new, 1) if node_name(name) == old else name for name in node.input]
    return changed


def extract(graph_def: GraphDef, nodes: Sequence[str], *, also: Sequence[str] = ()) -> GraphDef:
    """Return the part of a graph that some nodes need; `also` may be missing from it.

    Raises:
        GraphError: One of `nodes` is not there; names similar ones.
    """
    _check_nodes(graph_def, nodes)
    return with_nodes(graph_def, needed_nodes(graph_def, [*nodes, *also]))


def to_portable(graph_def: GraphDef) -> GraphDef:
    """Return the graph in operations that other formats have: no 8-bit weights, no placeholders with defaults."""
    if any(node.op == "Dequantize" for node in graph_def.node):
        graph_def = fold_constants(graph_def, weights_too=True)
    plain = copy_of(graph_def)
    for node in plain.node:
        if node.op == "PlaceholderWithDefault":
            kind = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = kind
    return plain


def strip_defaults(graph_def: GraphDef) -> GraphDef:
    """Return the graph without attributes that have their default value.

    A loader older than an attribute refuses to see it; to every other one the default says nothing new.
    """
    from tensorflow.python.framework import op_def_registry

    plain = copy_of(graph_def)
    for node in all_nodes(plain):
        definition = op_def_registry.get(node.op)
        attributes = definition.attr if definition else []
        defaults = {a.name: _bytes_of(a.default_value) for a in attributes if a.HasField("default_value")}
        for name, value in list(node.attr.items()):
            if name.startswith("_") or defaults.get(name) == _bytes_of(value):
                del node.attr[name]
    return plain


def _bytes_of(message: Any) -> bytes:
    return message.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _check_nodes(graph_def: GraphDef, wanted: Sequence[str]) -> None:
    names = [node.name for node in graph_def.node]
    for name in wanted:
        if node_name(name) not in names:
            raise GraphError(f"the graph has no node {name!r}.{did_you_mean(name, names)}")
