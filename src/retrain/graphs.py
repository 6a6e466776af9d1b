"""Pure functions on frozen TensorFlow graphs: read, allow-list, count, cut, rewrite."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import GraphError

GraphDef = Any  # tensorflow.GraphDef, which only the functions below import

# Operations that only compute. Everything else (files, network, Python, queues, variables) is refused: a graph
# from a stranger is a program, https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md
PURE_OPERATIONS = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin Asin Asinh
    Assert Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3
    BatchNormWithGlobalNormalization BatchToSpace BatchToSpaceND BiasAdd BiasAddV1 Bincount Bitcast
    BroadcastArgs BroadcastTo Bucketize Cast Ceil CheckNumerics ClipByValue Concat ConcatOffset ConcatV2 Const
    Conv1D Conv2D Conv2DBackpropInput Conv3D Cos Cosh CropAndResize Cumprod Cumsum DecodeBase64 DecodeBmp
    DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw DecodeWebP DepthToSpace DepthwiseConv2dNative
    Dequantize Diag DiagPart Div DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty EncodeBase64
    EnsureShape Enter Equal Erf Erfc Erfinv Exit Exp ExpandDims Expm1 ExtractImagePatches
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D Gather
    GatherNd GatherV2 Greater GreaterEqual HSVToRGB HardSwish Identity IdentityN If InTopK InTopKV2 Inv
    InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual LinSpace ListDiff Log
    Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond MatMul MatrixDiag MatrixDiagV3 Max MaxPool
    MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan Multinomial Neg NextIteration NoOp
    NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual
    OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch PartitionedCall Placeholder PlaceholderV2
    PlaceholderWithDefault Pow PreventGradient Prod QuantizeAndDequantize QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeDownAndShrinkRange QuantizeV2 QuantizedAdd
    QuantizedAvgPool QuantizedBatchNormWithGlobalNormalization QuantizedBiasAdd QuantizedConcat
    QuantizedConv2D QuantizedMatMul QuantizedMaxPool QuantizedMul QuantizedRelu QuantizedRelu6
    QuantizedReshape RGBToHSV RandomStandardNormal RandomUniform RandomUniformInt Range Rank RealDiv
    Reciprocal Relu Relu6 RequantizationRange Requantize Reshape ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor Reverse ReverseV2 RightShift Rint Roll Round Rsqrt ScaleAndTranslate ScatterNd Select
    SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax Softplus Softsign SpaceToBatch
    SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Sqrt Square SquaredDifference Squeeze
    StatefulPartitionedCall StatelessIf StatelessRandomNormalV2 StatelessRandomUniformV2 StatelessWhile
    StopGradient StridedSlice Sub Substr Sum Switch Tan Tanh TensorListFromTensor TensorListGetItem
    TensorListReserve TensorListSetItem TensorListStack Tile TopK TopKV2 Transpose TruncateDiv TruncateMod
    TruncatedNormal UnravelIndex Unpack Where While Xdivy Xlogy ZerosLike
    """.split()
)


_NEVER_CONSTANT = ("Placeholder", "PlaceholderWithDefault", "Multinomial", "TruncatedNormal")
_SMALL_BYTES = 1024


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


def operations(graph_def: GraphDef) -> Counter[str]:
    """Return how many nodes of each operation a graph holds, those of its functions included."""
    return Counter(node.op for node in all_nodes(graph_def))


def parameters(graph_def: GraphDef) -> int:
    """Return how many numbers the constants of a graph hold, those that stand for shapes and axes left out."""
    import tensorflow as tf

    kinds = {tf.as_dtype(kind).as_datatype_enum for kind in ("float32", "float16", "quint8", "qint8", "bfloat16")}
    weights = [n for n in all_nodes(graph_def) if n.op == "Const" and n.attr["dtype"].type in kinds]
    return sum(tf.TensorShape(n.attr["value"].tensor.tensor_shape).num_elements() or 0 for n in weights)


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


def pruned(graph_def: GraphDef, *, source: str, target: str) -> Any:
    """Return the part of a graph between two nodes as a function that TensorFlow can call and convert."""
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    tensors = [wrapped.graph.get_tensor_by_name(tensor_name(name)) for name in (source, target)]
    return wrapped.prune(*tensors)


def constant(name: str, value: np.ndarray, dtype: Any = None) -> Any:
    """Return a Const node of a value, a NodeDef; `dtype` is TensorFlow's, where numpy has none of its own for it."""
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    kind = tf.as_dtype(value.dtype if dtype is None else dtype).as_datatype_enum
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = kind
    return node


def fold_constants(graph_def: GraphDef, *, weights_too: bool = False) -> GraphDef:
    """Return the graph with every node that depends on constants alone replaced by its value.

    Args:
        graph_def: A frozen graph; it is not changed.
        weights_too: Whether 8-bit weights become float32 ones, which LiteRT needs and four times the bytes hold.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    known: set[str] = set()
    for name in in_order(graph_def):
        node = nodes[name]
        computed = node.op not in _NEVER_CONSTANT and "Random" not in node.op
        computed &= weights_too or node.op != "Dequantize"
        if node.op == "Const" or (computed and node.input and all(source_node(i) in known for i in node.input)):
            known.add(name)
    read = {source_node(i) for node in graph_def.node if node.name not in known for i in node.input}
    frontier = sorted(name for name in read & known if nodes[name].op != "Const")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        tensors = [graph.get_tensor_by_name(f"{name}:0") for name in frontier]
        constants = {
            name: constant(name, value, tensor.dtype)
            for name, tensor, value in zip(frontier, tensors, session.run(tensors), strict=True)
        }
    folded = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in constants:
            folded.node.add().CopyFrom(constants[node.name])
        elif node.name not in known or node.name in read:
            folded.node.add().CopyFrom(node)
    return folded


def renamed(graph_def: GraphDef, old: str, new: str) -> GraphDef:
    """Return the graph with another name for one of its nodes."""
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    for node in changed.node:
        node.name = new if node.name == old else node.name
        node.input[:] = [name.replace(old, new, 1) if source_node(name) == old else name for name in node.input]
    return changed


def kept(graph_def: GraphDef, nodes: Sequence[str], *, also: Sequence[str] = ()) -> GraphDef:
    """Return the part of a graph that some nodes need; `also` may be missing from it.

    Raises:
        GraphError: One of `nodes` is not there; names similar ones.
    """
    names = [node.name for node in graph_def.node]
    for wanted in nodes:
        if source_node(wanted) not in names:
            raise GraphError(f"the graph has no node {wanted!r}.{_similar(wanted, names)}")
    part = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    part.node.extend(needed_nodes(graph_def, [*nodes, *also]))
    return part


def portable(graph_def: GraphDef) -> GraphDef:
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


def without_defaults(graph_def: GraphDef) -> GraphDef:
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


def sketch(graph_def: GraphDef, *, scope: str) -> GraphDef:
    """Return a graph for a picture of it: large constants emptied, the backbone's nodes in one scope.

    Args:
        graph_def: A graph that retrain exported; it is not changed.
        scope: Names the scope, for a backbone whose nodes have none in common.
    """
    drawn = type(graph_def)()
    drawn.CopyFrom(graph_def)
    for node in drawn.node:
        if node.op == "Const" and node.attr["value"].ByteSize() > _SMALL_BYTES:
            del node.attr["value"]
    bottlenecks = [n for n in drawn.node if n.name.endswith("BottleneckInputPlaceholder") and n.input]
    inside = {n.name for n in needed_nodes(drawn, [n.input[0] for n in bottlenecks]) if n.op != "Placeholder"}
    inside = {name for name in inside if name.partition("/")[0] not in {source_node(n.input[0]) for n in bottlenecks}}
    if len({name.partition("/")[0] for name in inside}) > 1:
        prefix = "".join(c if c.isalnum() else "_" for c in scope)
        for node in drawn.node:
            node.input[:] = [f"{prefix}/{name}" if source_node(name) in inside else name for name in node.input]
            if node.name in inside:
                node.name = f"{prefix}/{node.name}"
    return drawn


def in_order(graph_def: GraphDef) -> Iterator[str]:
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


def _similar(wanted: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, names, n=3)
    return f" Similar names: {', '.join(near)}." if near else ""
