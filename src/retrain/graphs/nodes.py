"""Walks frozen graphs: their nodes, names, order, operations and constants.

A GraphDef is here the class that TensorBoard ships: the same message as TensorFlow's, to the byte, read and written
without TensorFlow, whose import takes seconds. `in_tensorflow` and `from_tensorflow` stand where a graph goes in or
comes out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

GraphDef = Any  # tensorboard.compat.proto.graph_pb2.GraphDef, which only the functions below import
# Names of numpy's types in the enumeration of TensorFlow, where they are not the same in capitals.
_TYPE_NAMES = {"float16": "HALF", "float32": "FLOAT", "float64": "DOUBLE", "object": "STRING"}
_WEIGHT_TYPES = ("DT_FLOAT", "DT_HALF", "DT_QUINT8", "DT_QINT8", "DT_BFLOAT16")


def in_tensorflow(graph_def: GraphDef) -> Any:
    """Return a graph as TensorFlow's own class, the only one that it imports."""
    import tensorflow as tf

    return tf.compat.v1.GraphDef.FromString(graph_def.SerializeToString())


def from_tensorflow(graph_def: Any) -> GraphDef:
    """Return a GraphDef of TensorFlow's class as ours."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    return GraphDef.FromString(graph_def.SerializeToString())


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
    from tensorboard.compat.proto.types_pb2 import DataType

    kinds = {DataType.Value(name) for name in _WEIGHT_TYPES}
    weights = [n for n in all_nodes(graph_def) if n.op == "Const" and attribute(n, "dtype").type in kinds]
    shapes = [attribute(node, "value").tensor.tensor_shape for node in weights]
    return sum(math.prod(max(0, side.size) for side in shape.dim) for shape in shapes if not shape.unknown_rank)


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
    """Return a Const node of a value, a NodeDef; `dtype` is TensorFlow's, where numpy has none of its own for it.

    An array of objects holds text or bytes.
    """
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    node = NodeDef(name=name, op="Const")
    tensor = node.attr["value"].tensor
    node.attr["dtype"].type = tensor.dtype = data_type(value.dtype) if dtype is None else dtype.as_datatype_enum
    tensor.tensor_shape.SetInParent()  # a number has a shape too, of no sides
    for side in value.shape:
        tensor.tensor_shape.dim.add(size=side)
    if value.dtype == object:
        texts = value.reshape(-1).tolist()
        tensor.string_val.extend(each.encode() if isinstance(each, str) else each for each in texts)
    else:
        tensor.tensor_content = value.tobytes()
    return node


def data_type(dtype: np.dtype[Any]) -> int:
    """Return the number of a type of numpy's in the enumeration of TensorFlow.

    Raises:
        ValueError: TensorFlow has no such type.
    """
    from tensorboard.compat.proto.types_pb2 import DataType

    return DataType.Value(f"DT_{_TYPE_NAMES.get(dtype.name, dtype.name.upper())}")  # type: ignore[no-any-return]


def array_of(tensor: Any) -> np.ndarray:
    """Return the value of a constant, a TensorProto; text is an array of bytes objects.

    Raises:
        ValueError, TypeError: It is damaged.
    """
    from tensorboard.util.tensor_util import make_ndarray

    return make_ndarray(tensor)  # type: ignore[no-any-return]


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
