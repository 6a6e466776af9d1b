"""Detects the image input, the pixel range, the bottleneck and the outputs of a foreign graph."""

from typing import Any

from retrain.graphs.nodes import GraphDef, node_name
from retrain.preprocessing import InputSpec

_OPERANDS = {"Identity": 0, "Mul": 1, "Sub": 1, "Add": 1, "AddV2": 1, "RealDiv": 1, "Div": 1}  # beside the image
_ORDERED = ("Sub", "RealDiv", "Div")
_RANGES = {(-1.0, 1.0): (127.5, 127.5), (0.0, 1.0): (0.0, 255.0), (0.0, 255.0): (0.0, 1.0)}  # min, max: mean, std


def detect_input(graph_def: GraphDef) -> InputSpec:
    """Return the image input of a graph, as far as its nodes show it.

    The range of its pixels follows from what the graph does to them first: fake quantisation names the range, and a
    graph that scales pixels to [-1, 1] itself shows from where. Otherwise it is known by node names: the slim
    MobileNets of the codelab (`input`, [-1, 1]), the Inception v3 of 2015 (`Mul`, [-1, 1], 299 px) and TF-Hub exports
    of the original `retrain.py` (`Placeholder`, [0, 1]).
    """
    nodes = {node.name: node for node in graph_def.node}
    if "Mul" in nodes and "DecodeJpeg/contents" in nodes:
        return InputSpec("Mul", 299, 299, 128.0, 128.0)
    images = [node for node in graph_def.node if node.op == "Placeholder" and _could_be_image(node)]
    if len(images) != 1:
        return InputSpec()
    height, width = _placeholder_size(images[0])
    mean, std = _pixel_range(nodes, images[0].name) or (None, None)
    if mean is None and any(name.startswith("MobilenetV1/") for name in nodes):
        mean, std = 127.5, 127.5
    elif mean is None and images[0].name == "Placeholder":
        mean, std = 0.0, 255.0
    return InputSpec(images[0].name, height, width, mean, std)


def detect_bottleneck(graph_def: GraphDef) -> str | None:
    """Return the node whose output a new head should sit on, None where its name is not known.

    Known are the pooled features of slim MobileNets and of the Inception v3 of 2015, and the bottleneck of a graph
    that retrain or the original `retrain.py` exported.
    """
    nodes = {node.name: node for node in graph_def.node}
    for known in ("MobilenetV1/Logits/AvgPool_1a/AvgPool", "pool_3"):
        if known in nodes:
            return known
    exported = [n for n in graph_def.node if n.name.endswith("BottleneckInputPlaceholder") and len(n.input) == 1]
    return node_name(exported[0].input[0]) if exported else None


def detect_outputs(graph_def: GraphDef) -> list[str]:
    """Return the names of the nodes that no other node reads, constants and metadata left out."""
    read_by_others = {node_name(name) for node in graph_def.node for name in node.input}
    silent = ("Const", "NoOp", "Assert", "Placeholder")
    return [n.name for n in graph_def.node if n.name not in read_by_others and n.op not in silent]


def _could_be_image(node: Any) -> bool:
    shape = node.attr["shape"].shape
    known = not shape.unknown_rank and len(shape.dim) > 0
    return not known or (len(shape.dim) == 4 and shape.dim[3].size in (3, -1))


def _pixel_range(nodes: dict[str, Any], image: str) -> tuple[float, float] | None:
    """Return the mean and std that a graph wants its pixels in, from what it does to them before anything else."""
    first = _only_reader(nodes, image)
    if first is not None and first.op == "FakeQuantWithMinMaxVars":
        low, high = (_scalar(nodes, tensor) for tensor in first.input[1:3])
        return None if low is None or high is None else _RANGES.get((round(low, 1), round(high, 1)))
    factor = _scaling(nodes, image)
    # What comes out must lie in [-1, 1] or [0, 1]; so pixels that go in reach from 0 to 1, or from 0 to 255.
    return (0.0, 255.0) if abs(factor - 2.0) < 0.1 else (0.0, 1.0) if 0 < factor < 0.02 else None


def _scaling(nodes: dict[str, Any], image: str) -> float:
    """Return the product of all factors that scale an image right behind its node."""
    product, last = 1.0, image
    while (reader := _only_reader(nodes, last)) is not None and (factor := _factor(nodes, reader, last)) is not None:
        product, last = product * factor, reader.name
    return product


def _factor(nodes: dict[str, Any], reader: Any, image: str) -> float | None:
    """Return the factor by which a node scales `image`, None for one that does more than scale and shift."""
    others = [_scalar(nodes, tensor) for tensor in reader.input if node_name(tensor) != image]
    if len(others) != _OPERANDS.get(reader.op) or None in others:
        return None
    if reader.op in _ORDERED and (node_name(reader.input[0]) != image or others[0] == 0):
        return None
    operand = others[0] if others and others[0] is not None else 1.0
    return operand if reader.op == "Mul" else 1 / operand if reader.op in ("RealDiv", "Div") else 1.0


def _only_reader(nodes: dict[str, Any], name: str) -> Any:
    """Return the one node that reads another's values, None for several or none."""
    readers = [n for n in nodes.values() if name in map(node_name, n.input) and n.op not in ("Shape", "NoOp")]
    return readers[0] if len(readers) == 1 else None


def _scalar(nodes: dict[str, Any], tensor: str) -> float | None:
    """Return the one number in a constant, whatever Identity nodes are in between; None for anything else."""
    import tensorflow as tf

    seen: set[str] = set()  # a damaged graph may have a loop
    node = nodes.get(node_name(tensor))
    while node is not None and node.op == "Identity" and node.input and node.name not in seen:
        seen.add(node.name)
        node = nodes.get(node_name(node.input[0]))
    if node is None or node.op != "Const":
        return None
    values = tf.make_ndarray(node.attr["value"].tensor)
    return float(values.reshape(-1)[0]) if values.size == 1 and values.dtype.kind == "f" else None


def _placeholder_size(node: Any) -> tuple[int | None, int | None]:
    dims = node.attr["shape"].shape.dim
    if len(dims) != 4:
        return None, None
    height, width = (dim.size if dim.size > 0 else None for dim in dims[1:3])
    return height, width
