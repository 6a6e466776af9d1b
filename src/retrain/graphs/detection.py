"""Detects the image input, the pixel range, the bottleneck and the outputs of a foreign graph."""

from typing import Any

import numpy as np

from retrain.graphs.nodes import GraphDef, array_of, attribute, node_name, readers_by_name
from retrain.preprocessing import InputSpec, range_before

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
    mean, std = _pixel_range(nodes, readers_by_name(graph_def), images[0].name) or (None, None)
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
    shape = attribute(node, "shape").shape
    known = not shape.unknown_rank and len(shape.dim) > 0
    return not known or (len(shape.dim) == 4 and shape.dim[3].size in (3, -1))


def _pixel_range(nodes: dict[str, Any], readers: dict[str, list[Any]], image: str) -> tuple[float, float] | None:
    """Return the mean and std that a graph wants its pixels in, from what it does to them before anything else."""
    first = _only_reader(readers, image)
    if first is not None and first.op == "FakeQuantWithMinMaxVars":
        low, high = (_constant(nodes, tensor) for tensor in first.input[1:3])
        if low is None or high is None or low.size + high.size > 2:
            return None
        return _RANGES.get((round(low.item(), 1), round(high.item(), 1)))
    factor, offset, last = np.ones(1), np.zeros(1), image
    while (reader := _only_reader(readers, last)) is not None and (step := _affine(nodes, reader, last)) is not None:
        factor, offset, last = factor * step[0], offset * step[0] + step[1], reader.name
    return range_before(factor, offset)


def _affine(nodes: dict[str, Any], reader: Any, image: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factor and offset by which a node changes `image`, None for one that does more."""
    one, zero = np.ones(1), np.zeros(1)
    if reader.op == "Identity":
        return one, zero
    others = [_constant(nodes, tensor) for tensor in reader.input if node_name(tensor) != image]
    if len(others) != 1 or others[0] is None:
        return None
    value, first = others[0], node_name(reader.input[0]) == image
    if reader.op in ("Add", "AddV2"):
        return one, value
    if reader.op == "Sub" and first:
        return one, -value
    if reader.op == "Mul":
        return value, zero
    return (1 / value, zero) if reader.op in ("RealDiv", "Div") and first and value.all() else None


def _only_reader(readers: dict[str, list[Any]], name: str) -> Any:
    """Return the one node that reads another's values, None for several or none."""
    found = {node.name: node for node in readers.get(name, []) if node.op not in ("Shape", "NoOp")}
    return next(iter(found.values())) if len(found) == 1 else None


def _constant(nodes: dict[str, Any], tensor: str) -> np.ndarray | None:
    """Return the one or three numbers of a constant, whatever Identity nodes are between; None for anything else."""
    seen: set[str] = set()  # a damaged graph may have a loop
    node = nodes.get(node_name(tensor))
    while node is not None and node.op == "Identity" and node.input and node.name not in seen:
        seen.add(node.name)
        node = nodes.get(node_name(node.input[0]))
    if node is None or node.op != "Const":
        return None
    values = array_of(attribute(node, "value").tensor)
    return values.reshape(-1).astype(np.float64) if values.size in (1, 3) and values.dtype.kind == "f" else None


def _placeholder_size(node: Any) -> tuple[int | None, int | None]:
    dims = attribute(node, "shape").shape.dim
    if len(dims) != 4:
        return None, None
    height, width = (dim.size if dim.size > 0 else None for dim in dims[1:3])
    return height, width
