"""Reads frozen graphs and SavedModels, and refuses what could do more than compute."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import BackboneError, GraphError
from retrain.files import MODEL_BYTES, check_file, read_regular
from retrain.graphs.nodes import GraphDef, all_nodes, array_of, attribute, needed_nodes, node_name
from retrain.trust import judging

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
    EnsureShape Enter Equal Erf Erfc Erfinv Exit Exp ExpandDims Expm1 ExtractImagePatches ExtractJpegShape
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


# The largest networks have a tenth of that; TensorFlow takes minutes and gigabytes beyond it.
MAX_NODES = 100_000
_MAX_EXPANDED = 1_000_000  # with every function written out where it is called
_MAX_NUMBERS = 2**28  # in a tensor that is filled with one number


def read_graph(path: Path) -> GraphDef:
    """Return the GraphDef in a file, checked against `PURE_OPERATIONS`.

    Raises:
        GraphError: No such file, not a GraphDef, or a graph with an operation that does more than compute.
    """
    try:
        data = read_regular(path, MODEL_BYTES)
    except OSError as error:
        raise GraphError(
            f"cannot read the graph {path}: {error.strerror}. `retrain` writes one; --graph names another."
        ) from error
    graph_def = parse_graph(data, name=str(path))
    check_pure(graph_def, name=str(path))
    return graph_def


def read_judged(path: Path) -> GraphDef:
    """Return the GraphDef in a file, as `read_graph` does, after a first reading of one that is not known yet."""
    judging.judge(path, judging.Trial(partial(try_reading, path), "read graph", part=True))
    return read_graph(path)


def try_reading(path: Path) -> bool:
    """Read a graph."""
    read_graph(path)
    return True


def parse_graph(data: bytes, *, name: str) -> GraphDef:
    """Return the GraphDef serialised in `data`; `name` is what an error calls it.

    Raises:
        GraphError: Not a GraphDef with at least one node.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph_def = GraphDef()
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
    _check_limits(graph_def, name)
    functions = {function.signature.name for function in graph_def.library.function}
    for node in all_nodes(graph_def):
        if node.op not in PURE_OPERATIONS and node.op not in also and node.op not in functions:
            raise GraphError(
                f"{name} is refused: its node {node.name!r} is a {node.op} operation, and only operations that do "
                f"nothing but compute are run. Use a graph from a source that you trust."
            )


def _check_limits(graph_def: GraphDef, name: str) -> None:
    """Refuse a graph that is too large for what it could be, or that names one node twice."""
    names = [node.name for node in graph_def.node]
    nodes, trust = sum(1 for _ in all_nodes(graph_def)), "Use a graph from a source that you trust."
    if nodes > MAX_NODES:
        raise GraphError(f"{name} is refused: it has {nodes:,} nodes, and {MAX_NODES:,} are the most. {trust}")
    if len(set(names)) < len(names):
        twice = next(each for each, count in Counter(names).items() if count > 1)
        raise GraphError(f"{name} is damaged: it has two nodes named {twice!r}.")
    try:
        expanded = _expanded_size(graph_def)
    except RecursionError as error:
        raise GraphError(f"{name} is refused: its functions call themselves or each other too deep. {trust}") from error
    if expanded > _MAX_EXPANDED:
        raise GraphError(f"{name} is refused: its functions write out to {expanded:,} nodes. {trust}")
    numbers = sum(_repeated(node) for node in all_nodes(graph_def) if node.op == "Const")
    if numbers > _MAX_NUMBERS:
        raise GraphError(f"{name} is refused: its constants repeat {numbers:,} numbers that it does not hold. {trust}")
    for node in _fills(graph_def):
        raise GraphError(f"{name} is refused: its node {node.name!r} fills more than {_MAX_NUMBERS:,} numbers. {trust}")


def _expanded_size(graph_def: GraphDef) -> int:
    """Return how many nodes a graph has with its functions written out; RecursionError where one calls itself."""
    bodies = {function.signature.name: function.node_def for function in graph_def.library.function}
    sizes: dict[str, int] = {}

    def size(nodes: Any) -> int:
        return sum(1 + sum(of(called) for called in _called(node) if called in bodies) for node in nodes)

    def of(function: str) -> int:
        if function not in sizes:
            sizes[function] = size(bodies[function])
        return sizes[function]

    return size(graph_def.node)


def _called(node: Any) -> set[str]:
    """Return the names of the functions that a node may call."""
    values = node.attr.values()
    listed = {each.name for value in values for each in value.list.func}
    return {node.op} | listed | {value.func.name for value in values if value.HasField("func")}


def _repeated(node: Any) -> int:
    """Return how many numbers a constant has that the file does not hold: it repeats its last one."""
    tensor = attribute(node, "value").tensor
    return 0 if tensor.tensor_content else math.prod(max(0, dim.size) for dim in tensor.tensor_shape.dim)


def _fills(graph_def: GraphDef) -> Iterator[Any]:
    """Yield the nodes that fill or tile a tensor with a constant, far too large shape."""
    constants = {node.name: node for node in graph_def.node if node.op == "Const"}
    for node in graph_def.node:
        if node.op in ("Fill", "BroadcastTo", "Tile") and len(node.input) > 1:
            shape = constants.get(node_name(node.input[0 if node.op == "Fill" else 1]))
            with contextlib.suppress(ValueError, TypeError):  # a damaged one, which TensorFlow will refuse
                if shape is not None:
                    sides = array_of(attribute(shape, "value").tensor)
                    if np.prod(sides, dtype=float) > _MAX_NUMBERS:
                        yield node


# What a SavedModel needs beside pure operations to hold and restore its own variables.
_VARIABLE_OPERATIONS = frozenset(
    """
    Assign AssignVariableOp DisableCopyOnRead IsVariableInitialized
    ReadVariableOp ResourceGather RestoreV2 Restore
    VarHandleOp VarIsInitializedOp Variable VariableV2 VariableShape RandomNormal TruncatedNormal
    """.split()
)
_READ_BY_TENSORFLOW = ("fingerprint.pb", "variables/*", "assets/*")  # beside saved_model.pb
_WRITING_OPERATIONS = frozenset("SaveV2 SaveSlices Save MergeV2Checkpoints".split())
# What its saver writes with. It is never run, and nothing but the saver may refer to it.
_SAVER_OPERATIONS = _WRITING_OPERATIONS | {"ShardedFilename", "StaticRegexFullMatch", "StringJoin"}


def read_saved_model(folder: Path) -> Any:
    """Return the SavedModel of a folder; refuse one that could do more than compute and restore its variables.

    Every file that TensorFlow will open when it loads the folder is checked, too.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(read_regular(folder / "saved_model.pb", MODEL_BYTES))
        for file in chain.from_iterable(folder.glob(pattern) for pattern in _READ_BY_TENSORFLOW):
            check_file(file, MODEL_BYTES)
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or "damaged"
        file = Path(getattr(error, "filename", None) or folder / "saved_model.pb")
        raise BackboneError(f"cannot read {file}: {reason}. Give the folder of a SavedModel.") from error
    accepted = _VARIABLE_OPERATIONS | _SAVER_OPERATIONS
    for meta_graph in model.meta_graphs:
        check_pure(meta_graph.graph_def, name=str(folder), also=accepted)
        _check_saver(meta_graph, folder)
    return model


def _check_saver(meta_graph: Any, folder: Path) -> None:
    """Refuse a graph in which anything but the saver itself could write a file.

    What runs when a model is loaded: the restoring half of its saver, its initialisers, and nothing else.
    """
    library = meta_graph.graph_def.library.function
    writing = {f.signature.name for f in library if any(n.op in _WRITING_OPERATIONS for n in f.node_def)}
    saver = node_name(meta_graph.saver_def.save_tensor_name)
    for node in all_nodes(meta_graph.graph_def):
        if _called(node) & writing and node.name != saver:
            raise GraphError(f"{folder} is refused: its node {node.name!r} writes files.")
    for name in sorted(writing & set(meta_graph.object_graph_def.concrete_functions)):
        raise GraphError(f"{folder} is refused: its function {name!r} writes files.")
    initialiser = meta_graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name
    on_loading = [meta_graph.saver_def.restore_op_name, initialiser]
    for collection in ("saved_model_main_op", "legacy_init_op"):
        on_loading += meta_graph.collection_def[collection].node_list.value
    for node in needed_nodes(meta_graph.graph_def, on_loading):
        if node.op in _WRITING_OPERATIONS:
            raise GraphError(f"{folder} is refused: its node {node.name!r} writes files when it is loaded.")
