"""Cuts, renames and rewrites frozen graphs; every function returns a new graph."""

from collections.abc import Sequence
from typing import Any

from retrain.errors import GraphError, did_you_mean
from retrain.graphs.folding import fold_constants
from retrain.graphs.nodes import GraphDef, all_nodes, needed_nodes, node_name, tensor_name
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
    import tensorflow as tf

    source = spec.node or ""
    names = [node.name for node in graph_def.node]
    for wanted in (source, target):
        if wanted not in names:
            raise GraphError(f"the graph has no node {wanted!r}.{did_you_mean(wanted, names)}")
    shape = tf.TensorShape([None, spec.height, spec.width, 3])
    cut_graph = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name == source:
            placeholder = cut_graph.node.add(name=source, op="Placeholder")
            placeholder.attr["dtype"].type = tf.float32.as_datatype_enum
            placeholder.attr["shape"].shape.CopyFrom(shape.as_proto())
        else:
            cut_graph.node.add().CopyFrom(node)
    kept = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    kept.node.extend(needed_nodes(cut_graph, [target]))
    return kept


def as_function(graph_def: GraphDef, *, source: str, target: str) -> Any:
    """Return the part of a graph between two nodes as a function that TensorFlow can call and convert."""
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    tensors = [wrapped.graph.get_tensor_by_name(tensor_name(name)) for name in (source, target)]
    return wrapped.prune(*tensors)


def rename_node(graph_def: GraphDef, old: str, new: str) -> GraphDef:
    """Return the graph with another name for one of its nodes."""
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    for node in changed.node:
        node.name = new if node.name == old else node.name
        node.input[:] = [name.replace(old, new, 1) if node_name(name) == old else name for name in node.input]
    return changed


def extract(graph_def: GraphDef, nodes: Sequence[str], *, also: Sequence[str] = ()) -> GraphDef:
    """Return the part of a graph that some nodes need; `also` may be missing from it.

    Raises:
        GraphError: One of `nodes` is not there; names similar ones.
    """
    names = [node.name for node in graph_def.node]
    for wanted in nodes:
        if node_name(wanted) not in names:
            raise GraphError(f"the graph has no node {wanted!r}.{did_you_mean(wanted, names)}")
    part = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    part.node.extend(needed_nodes(graph_def, [*nodes, *also]))
    return part


def to_portable(graph_def: GraphDef) -> GraphDef:
    """Return the graph in operations that other formats have: no 8-bit weights, and nothing fed halfway.

    A node that passes on what it reads unless something else is fed to it passes it on.
    """
    if any(node.op == "Dequantize" for node in graph_def.node):
        graph_def = fold_constants(graph_def, weights_too=True)
    plain = type(graph_def)()
    plain.CopyFrom(graph_def)
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

    plain = type(graph_def)()
    plain.CopyFrom(graph_def)
    for node in all_nodes(plain):
        definition = op_def_registry.get(node.op)
        defaults = (
            {a.name: a.default_value for a in definition.attr if a.HasField("default_value")} if definition else {}
        )
        for name in [name for name, value in node.attr.items() if name.startswith("_") or defaults.get(name) == value]:
            del node.attr[name]
    return plain
