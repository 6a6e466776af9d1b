"""Pure functions on frozen TensorFlow graphs: read, allow-list, inspect, cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain.errors import GraphError

GraphDef = Any  # tensorflow.GraphDef, which only the functions below import

# Operations that only compute. Everything else (files, network, Python, queues, variables) is refused: a graph
# from a stranger is a program, https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md
PURE_OPERATIONS = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin Asin Asinh
    Assert Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpace
    BatchToSpaceND BiasAdd BiasAddV1 Bincount Bitcast BroadcastArgs BroadcastTo Bucketize Cast Ceil
    CheckNumerics ClipByValue Concat ConcatOffset ConcatV2 Const Conv1D Conv2D Conv2DBackpropInput Conv3D Cos
    Cosh CropAndResize Cumprod Cumsum DecodeBase64 DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng
    DecodeRaw DecodeWebP DepthToSpace DepthwiseConv2dNative Dequantize Diag DiagPart Div DivNoNan
    DynamicPartition DynamicStitch Einsum Elu Empty EncodeBase64 EnsureShape Enter Equal Erf Erfc Erfinv Exit
    Exp ExpandDims Expm1 ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D Gather GatherNd GatherV2 Greater GreaterEqual
    HSVToRGB HardSwish Identity IdentityN If InTopK InTopKV2 Inv InvertPermutation IsFinite IsInf IsNan L2Loss
    LRN LeakyRelu LeftShift Less LessEqual LinSpace ListDiff Log Log1p LogSoftmax LogicalAnd LogicalNot
    LogicalOr LoopCond MatMul MatrixDiag MatrixDiagV3 Max MaxPool MaxPoolV2 Maximum Mean Merge Min Minimum
    MirrorPad Mod Mul MulNoNan Multinomial Neg NextIteration NoOp NonMaxSuppression NonMaxSuppressionV2
    NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2
    ParallelDynamicStitch PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault Pow PreventGradient
    Prod QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
    QuantizeDownAndShrinkRange QuantizeV2 QuantizedAdd QuantizedAvgPool
    QuantizedBatchNormWithGlobalNormalization QuantizedBiasAdd QuantizedConcat QuantizedConv2D QuantizedMatMul
    QuantizedMaxPool QuantizedMul QuantizedRelu QuantizedRelu6 QuantizedReshape RGBToHSV RandomStandardNormal
    RandomUniform RandomUniformInt Range Rank RealDiv Reciprocal Relu Relu6 RequantizationRange Requantize
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor Reverse ReverseV2 RightShift Rint Roll
    Round Rsqrt ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax
    Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessRandomNormalV2
    StatelessRandomUniformV2 StatelessWhile StopGradient StridedSlice Sub Substr Sum Switch Tan Tanh
    TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack Tile TopK TopKV2
    Transpose TruncateDiv TruncateMod TruncatedNormal UnravelIndex Unpack Where While Xdivy Xlogy ZerosLike
    """.split()
)


_SMALL_BYTES = 1024


@dataclass(frozen=True)
class ImageInput:
    """Where a graph takes its image, and in which form.

    `tensor` is a node's name; the graph expects float32 [N, height, width, 3] of `(pixel - mean) / std`, RGB.
    A field that the graph does not tell is None.
    """

    tensor: str | None
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None


def read(path: Path) -> GraphDef:
    """Return the GraphDef in a file, checked against `PURE_OPERATIONS`.

    Raises:
        GraphError: No such file, not a GraphDef, or a graph with an operation that does more than compute.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GraphError(
            f"cannot read the graph {path}: {error.strerror}. `retrain` writes one; --graph names another."
        ) from error
    graph_def = parse(data, name=str(path))
    check_pure(graph_def, name=str(path))
    return graph_def


def parse(data: bytes, *, name: str) -> GraphDef:
    """Return the GraphDef serialised in `data`; `name` is what an error calls it.

    Raises:
        GraphError: Not a GraphDef with at least one node.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(data)
    except DecodeError:
        graph_def.Clear()
    if not graph_def.node or not all(node.name and node.op for node in graph_def.node):
        raise GraphError(f"{name} is not a frozen TensorFlow graph. Give a .pb file that `retrain` wrote.")
    return graph_def


def check_pure(graph_def: GraphDef, *, name: str, also: frozenset[str] = frozenset()) -> None:
    """Refuse a graph with an operation that could do more than compute.

    Args:
        graph_def: The graph, its function library included.
        name: What an error calls the graph.
        also: Operations accepted beside `PURE_OPERATIONS`.

    Raises:
        GraphError: Names the first such operation and its node.
    """
    functions = {function.signature.name for function in graph_def.library.function}
    for node in all_nodes(graph_def):
        if node.op not in PURE_OPERATIONS and node.op not in also and node.op not in functions:
            raise GraphError(
                f"{name} is refused: its node {node.name!r} is a {node.op} operation, and only operations that do "
                f"nothing but compute are run. Use a graph from a source that you trust."
            )


def all_nodes(graph_def: GraphDef) -> Iterator[Any]:
    """Yield every NodeDef of a graph, those of its functions included."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def image_input(graph_def: GraphDef) -> ImageInput:
    """Return what the graph itself tells about its image input.

    Known by their node names: the slim MobileNets of the codelab (`input`, [-1, 1]), the Inception v3 of 2015
    (`Mul`, [-1, 1], 299 px) and TF-Hub exports of the original `retrain.py` (`Placeholder`, [0, 1]).
    """
    nodes = {node.name: node for node in graph_def.node}
    if "Mul" in nodes and "DecodeJpeg/contents" in nodes:
        return ImageInput("Mul", 299, 299, 128.0, 128.0)
    images = [node for node in graph_def.node if node.op == "Placeholder" and _could_be_image(node)]
    if len(images) != 1:
        return ImageInput(None)
    height, width = _placeholder_size(images[0])
    mean: float | None = None
    std: float | None = None
    if any(name.startswith("MobilenetV1/") for name in nodes):
        mean, std = 127.5, 127.5
    elif images[0].name == "Placeholder":
        mean, std = 0.0, 255.0
    return ImageInput(images[0].name, height, width, mean, std)


def bottleneck_node(graph_def: GraphDef) -> str | None:
    """Return the node whose output a new head should sit on, None where the graph does not tell.

    Known by name: the pooled features of slim MobileNets and of the Inception v3 of 2015, and the bottleneck
    of a graph that retrain or the original `retrain.py` exported.
    """
    nodes = {node.name: node for node in graph_def.node}
    for known in ("MobilenetV1/Logits/AvgPool_1a/AvgPool", "pool_3"):
        if known in nodes:
            return known
    exported = [n for n in graph_def.node if n.name.endswith("BottleneckInputPlaceholder") and len(n.input) == 1]
    return source_node(exported[0].input[0]) if exported else None


def output_nodes(graph_def: GraphDef) -> list[str]:
    """Return the names of the nodes that no other node reads, constants and metadata left out."""
    read_by_others = {source_node(name) for node in graph_def.node for name in node.input}
    silent = ("Const", "NoOp", "Assert", "Placeholder")
    return [n.name for n in graph_def.node if n.name not in read_by_others and n.op not in silent]


def source_node(tensor: str) -> str:
    """Return the node's name in a tensor's name: "a" for "a", "a:0" and "^a"."""
    return tensor.removeprefix("^").rsplit(":", 1)[0] if ":" in tensor else tensor.removeprefix("^")


def tensor_name(name: str) -> str:
    """Return the full name of a tensor, "a:0" for "a" and for "a:0"."""
    return name if ":" in name else f"{name}:0"


def cut(graph_def: GraphDef, *, source: str, target: str, height: int | None, width: int | None) -> GraphDef:
    """Return the part of a graph between two tensors, with a float32 placeholder in place of `source`.

    Args:
        graph_def: A frozen graph; it is not changed.
        source: Node that takes the images; the placeholder gets its name and the shape [None, height, width, 3].
        target: Node to keep together with all that it needs.
        height: Rows of an image.
        width: Columns of an image.

    Raises:
        GraphError: One of both nodes is not there; names similar ones.
    """
    import tensorflow as tf

    names = [node.name for node in graph_def.node]
    for wanted in (source, target):
        if wanted not in names:
            raise GraphError(f"the graph has no node {wanted!r}.{_similar(wanted, names)}")
    shape = tf.TensorShape([None, height, width, 3])
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


def fold_constants(graph_def: GraphDef) -> GraphDef:
    """Return the graph with every node that depends on constants alone replaced by its value.

    LiteRT has no Dequantize for the weights of the codelab's `_quantized` graphs; their values need none.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    constant: set[str] = set()
    for name in _in_order(graph_def):
        node = nodes[name]
        computed = node.op not in ("Placeholder", "PlaceholderWithDefault") and "Random" not in node.op
        if node.op == "Const" or (computed and node.input and all(source_node(i) in constant for i in node.input)):
            constant.add(name)
    read = {source_node(i) for node in graph_def.node if node.name not in constant for i in node.input}
    frontier = sorted(name for name in read & constant if nodes[name].op != "Const")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        values = session.run([graph.get_tensor_by_name(f"{name}:0") for name in frontier])
    folded = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in frontier:
            value = values[frontier.index(node.name)]
            new = folded.node.add(name=node.name, op="Const")
            new.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        elif node.name not in constant or node.name in read:
            folded.node.add().CopyFrom(node)
    return folded


def without_weights(graph_def: GraphDef) -> GraphDef:
    """Return the graph with its large constants emptied, for a picture of it; it cannot be run."""
    import tensorflow as tf

    sketch = tf.compat.v1.GraphDef()
    sketch.CopyFrom(graph_def)
    for node in sketch.node:
        if node.op == "Const" and node.attr["value"].ByteSize() > _SMALL_BYTES:
            del node.attr["value"]
    return sketch


def _in_order(graph_def: GraphDef) -> Iterator[str]:
    """Yield the names of nodes, each after those that it reads; nodes in a loop are left out."""
    readers: dict[str, list[str]] = {}
    waiting: dict[str, int] = {}
    for node in graph_def.node:
        sources = {source_node(tensor) for tensor in node.input}
        waiting[node.name] = len(sources)
        for source in sources:
            readers.setdefault(source, []).append(node.name)
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        yield name
        for reader in readers.get(name, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)


def needed_nodes(graph_def: GraphDef, targets: Sequence[str]) -> list[Any]:
    """Return the NodeDefs that some nodes or tensors depend on, themselves among them, in the graph's order."""
    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    waiting = [source_node(target) for target in targets]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in nodes:
            needed.add(name)
            waiting += [source_node(tensor) for tensor in nodes[name].input]
    return [node for node in graph_def.node if node.name in needed]


def _could_be_image(node: Any) -> bool:
    shape = node.attr["shape"].shape
    known = not shape.unknown_rank and len(shape.dim) > 0
    return not known or (len(shape.dim) == 4 and shape.dim[3].size in (3, -1))


def _placeholder_size(node: Any) -> tuple[int | None, int | None]:
    dims = node.attr["shape"].shape.dim
    if len(dims) != 4:
        return None, None
    height, width = dims[1].size, dims[2].size
    return (height if height > 0 else None), (width if width > 0 else None)


def _similar(wanted: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, names, n=3)
    return f" Similar names: {', '.join(near)}." if near else ""
