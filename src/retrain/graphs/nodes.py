"""Walks frozen graphs: their nodes, names, order, operations and constants."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

GraphDef = Any  # tensorflow.GraphDef, which only the functions below import


def copy_of(message: Any) -> Any:
    """Return a copy of a GraphDef or NodeDef, to be changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def with_nodes(graph_def: GraphDef, nodes: Iterable[Any]) -> GraphDef:
    """Return a graph of other nodes, copies of these, with the versions and the functions of `graph_def`."""
    graph = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    graph.node.extend(nodes)
    return graph


def all_nodes(graph_def: GraphDef) -> Iterator[Any]:
    """Yield every NodeDef of a graph, those of its functions included."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def count_operations(graph_def: GraphDef) -> Counter[str]:
    """Return how many nodes of each operation a graph holds, those of its functions included."""
    return Counter(node.op for node in all_nodes(graph_def))


def count_parameters(graph_def: GraphDef) -> int:
    """Return how many numbers the constants of a graph hold, without those of shapes and axes."""
    import tensorflow as tf

    kinds = {tf.as_dtype(kind).as_datatype_enum for kind in ("float32", "float16", "quint8", "qint8", "bfloat16")}
    weights = [n for n in all_nodes(graph_def) if n.op == "Const" and attribute(n, "dtype").type in kinds]
    return sum(tf.TensorShape(attribute(n, "value").tensor.tensor_shape).num_elements() or 0 for n in weights)


def attribute(node: Any, name: str) -> Any:
    """Return an attribute of a node, an AttrValue: its own, or else the default of its operation.

    Looking in `node.attr` for one that is not there would add it, without a value, which TensorFlow's C API refuses.
    """
    if name in node.attr:
        return node.attr[name]
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    found = [each.default_value for each in definition.attr if each.name == name] if definition else []
    return found[0] if found else type(node)().attr[name]


def node_name(tensor: str) -> str:
    """Return the node's name in a tensor's name: "a" for "a", "a:0" and "^a"."""
    return tensor.removeprefix("^").rsplit(":", 1)[0] if ":" in tensor else tensor.removeprefix("^")


def tensor_name(name: str) -> str:
    """Return the full name of a tensor, "a:0" for "a" and for "a:0"."""
    return name if ":" in name else f"{name}:0"


def constant_node(name: str, value: np.ndarray, dtype: Any = None) -> Any:
    """Return a Const node of a value, a NodeDef; `dtype` is TensorFlow's, where numpy has none of its own for it."""
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    kind = tf.as_dtype(value.dtype if dtype is None else dtype).as_datatype_enum
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = kind
    return node


def readers_by_name(graph_def: GraphDef) -> dict[str, list[Any]]:
    """Return the nodes that read each node, by its name; one that reads it twice is there twice."""
    readers: dict[str, list[Any]] = {}
    for node in graph_def.node:
        for tensor in node.input:
            readers.setdefault(node_name(tensor), []).append(node)
    return readers


def topological_order(graph_def: GraphDef) -> Iterator[str]:
    """Yield the names of nodes, each after those that it reads; nodes in a loop are left out."""
    readers = readers_by_name(graph_def)
    waiting = {node.name: len(node.input) for node in graph_def.node}
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        yield name
        for reader in readers.get(name, ()):
            waiting[reader.name] -= 1
            if waiting[reader.name] == 0:
                ready.append(reader.name)


def needed_nodes(graph_def: GraphDef, targets: Sequence[str]) -> list[Any]:
    """Return the NodeDefs that some nodes or tensors depend on, themselves among them, in the graph's order."""
    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    waiting = [node_name(target) for target in targets]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in nodes:
            needed.add(name)
            waiting += [node_name(tensor) for tensor in nodes[name].input]
    return [node for node in graph_def.node if node.name in needed]
