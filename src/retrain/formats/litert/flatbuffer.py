"""Edits and reads LiteRT model files: adds a head to a backbone, and metadata to a model.

A converted backbone is kept for every later run; its head is added in milliseconds, where converting the whole
network again would take seconds. Format: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/schema/schema.fbs
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.head import Head

_IDENTIFIER = b"TFL3"


def add_head(backbone: bytes, head: Head, *, output: str, notes: Mapping[str, bytes]) -> bytes:
    """Return a model that ends in the probabilities of a head.

    Args:
        backbone: A float32 model of one input and one output, [1, D].
        head: Takes its output.
        output: Name of the output tensor.
        notes: More metadata, bytes by their names.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(backbone)
    graph = model.subgraphs[0]
    logits = graph.outputs[0]
    for layer, names in zip(head.layers, head.names("head"), strict=True):
        # LiteRT keeps the weights of a dense layer as [C, D].
        matrix = _add_tensor(schema, model, names.weights, layer.weights.T.shape, np.ascontiguousarray(layer.weights.T))
        vector = _add_tensor(schema, model, names.biases, layer.biases.shape, layer.biases)
        layer_input, logits = logits, _add_tensor(schema, model, names.scope, (1, len(layer.biases)))
        dense = schema.FullyConnectedOptionsT()
        if layer is not head.last:
            dense.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [layer_input, matrix, vector], [logits]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, dense
        _add_operator(schema, model, schema.BuiltinOperator.FULLY_CONNECTED, operator)
    probabilities = _add_tensor(schema, model, output, (1, len(head.last.biases)))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [logits], [probabilities]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SoftmaxOptions, softmax
    _add_operator(schema, model, schema.BuiltinOperator.SOFTMAX, operator)
    graph.outputs = [probabilities]
    for signature in model.signatureDefs or []:
        signature.outputs[0].name = output
        signature.outputs[0].tensorIndex = probabilities
    _add_notes(schema, model, notes)
    return _packed(model, len(backbone))


def add_metadata(model: bytes, notes: Mapping[str, bytes]) -> bytes:
    """Return a model with more metadata, bytes by their names."""
    from ai_edge_litert import schema_py_generated as schema

    opened = schema.ModelT.InitFromPackedBuf(model)
    _add_notes(schema, opened, notes)
    return _packed(opened, len(model))


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model, its place among the tensors and its shape, None for any number.

    `scale` is 0 where it is not quantised; `operation` names, in lower case, what gives an output.
    """

    name: str
    index: int
    shape: tuple[int | None, ...]
    dtype: type
    scale: float
    zero_point: int
    operation: str | None = None


def read_metadata(model: bytes) -> dict[str, bytes]:
    """Return the metadata in a model by name.

    Raises:
        ValueError: Not a LiteRT model.
    """
    with opened_model(model) as opened:
        entries = [opened.Metadata(i) for i in range(opened.MetadataLength())]
        return {
            entry.Name().decode(): bytes(opened.Buffers(entry.Buffer()).DataAsNumpy())
            for entry in entries
            if opened.Buffers(entry.Buffer()).DataLength()
        }


def io_tensors(model: bytes) -> tuple[TensorInfo, dict[str, TensorInfo]]:
    """Return the first input of a model and its outputs by name: by those of its signature too, which come first.

    Raises:
        ValueError: Not a LiteRT model.
    """
    with opened_model(model) as opened:
        graph = opened.Subgraphs(0)
        outputs = [_tensor_info(opened, index) for index in graph.OutputsAsNumpy().tolist()]
        by_index = {output.index: output for output in outputs}
        signatures = [opened.SignatureDefs(i) for i in range(opened.SignatureDefsLength())]
        names = [signature.Outputs(i) for signature in signatures for i in range(signature.OutputsLength())]
        named = {n.Name().decode(): by_index[n.TensorIndex()] for n in names if n.TensorIndex() in by_index}
        return _tensor_info(opened, graph.Inputs(0)), {**named, **{output.name: output for output in outputs}}


def _tensor_info(opened: Any, index: int) -> TensorInfo:
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.UINT8: np.uint8, schema.TensorType.INT8: np.int8}
    tensor = opened.Subgraphs(0).Tensors(index)
    quantization = tensor.Quantization()
    quantised = quantization is not None and quantization.ScaleLength() == 1
    fixed = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
    shape = tensor.ShapeSignatureAsNumpy().tolist() if tensor.ShapeSignatureLength() else fixed
    if fixed[1:3] == [1, 1]:  # what converters of old wrote for images of any size
        shape = [*shape[:1], -1, -1, *shape[3:]]
    return TensorInfo(
        tensor.Name().decode(),
        index,
        tuple(side if side > 0 else None for side in shape),
        dtypes.get(tensor.Type(), np.float32),
        float(quantization.Scale(0)) if quantised else 0.0,
        int(quantization.ZeroPoint(0)) if quantised else 0,
        _operation_behind(opened, index),
    )


def _operation_behind(opened: Any, tensor: int) -> str | None:
    """Return the operation that gives a tensor, past those that only pass numbers on; None for an input."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name.lower() for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    operation = None
    for _, kind in operators_behind(opened, tensor):
        operation = names.get(kind)
        if operation not in ("quantize", "dequantize", "reshape", "squeeze"):
            break
    return operation


def operators_behind(opened: Any, tensor: int) -> Iterator[tuple[Any, int]]:
    """Yield the operator that gives a tensor of a model, with its kind, then the one that gives its first input, ..."""
    graph = opened.Subgraphs(0)
    for number in reversed(range(graph.OperatorsLength())):
        operator = graph.Operators(number)
        if tensor in operator.OutputsAsNumpy().tolist():
            yield operator, opened.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            tensor = operator.Inputs(0)


def first_scaling(model: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factor and offset, each one number or three, if a model begins with scaling pixels; None otherwise.

    Raises:
        ValueError: Not a LiteRT model.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds = schema.BuiltinOperator
    with opened_model(model) as opened:
        graph = opened.Subgraphs(0)
        operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
        tensor, factor, offset, found = graph.Inputs(0), np.ones(1), np.zeros(1), None
        for _ in range(2):  # a multiplication and an addition, or only one of them
            readers = [operator for operator in operators if tensor in operator.InputsAsNumpy().tolist()]
            code = opened.OperatorCodes(readers[0].OpcodeIndex()).BuiltinCode() if len(readers) == 1 else None
            if code not in (kinds.MUL, kinds.DIV, kinds.ADD, kinds.SUB):
                break
            first, other = readers[0].InputsAsNumpy().tolist()[:2]
            buffer = opened.Buffers(graph.Tensors(first if other == tensor else other).Buffer())
            if first == other or not buffer.DataLength() or (first != tensor and code in (kinds.DIV, kinds.SUB)):
                break
            value = buffer.DataAsNumpy().view(np.float32).astype(np.float64)
            if value.size not in (1, 3) or (code == kinds.DIV and not value.all()):
                break
            if code in (kinds.MUL, kinds.DIV):
                value = value if code == kinds.MUL else 1 / value
                factor, offset = factor * value, offset * value
            else:
                offset = offset + value if code == kinds.ADD else offset - value
            tensor, found = readers[0].Outputs(0), True
        return (factor, offset) if found else None


def count_operations(model: bytes) -> Counter[str]:
    """Return how many operators of each kind a model holds."""
    from ai_edge_litert import schema_py_generated as schema

    opened = schema.ModelT.InitFromPackedBuf(model)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [names.get(code.builtinCode, "CUSTOM") for code in opened.operatorCodes]
    return Counter(codes[operator.opcodeIndex] for graph in opened.subgraphs for operator in graph.operators)


def count_parameters(model: bytes) -> int:
    """Return how many numbers the constant tensors of a model hold, those of shapes and axes left out."""
    from ai_edge_litert import schema_py_generated as schema

    opened = schema.ModelT.InitFromPackedBuf(model)
    shapes = (schema.TensorType.INT32, schema.TensorType.INT64)
    return sum(
        int(np.prod(tensor.shape))
        for graph in opened.subgraphs
        for tensor in graph.tensors
        if opened.buffers[tensor.buffer].data is not None and tensor.type not in shapes
    )


@contextlib.contextmanager
def opened_model(model: bytes | bytearray) -> Iterator[Any]:
    """Open a model to look around in it; whatever a damaged one leads to becomes a ValueError."""
    from ai_edge_litert import schema_py_generated as schema

    if model[4:8] != _IDENTIFIER:
        raise ValueError("not a LiteRT model")
    try:
        yield schema.Model.GetRootAsModel(model, 0)
    except Exception as error:  # offsets that lead nowhere end in anything from struct.error to AttributeError
        raise ValueError("a damaged LiteRT model") from error


def _add_buffer(schema: Any, model: Any, content: np.ndarray | None = None) -> int:
    buffer = schema.BufferT()
    if content is not None:
        buffer.data = content.reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _add_notes(schema: Any, model: Any, notes: Mapping[str, bytes]) -> None:
    for name, content in notes.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, _add_buffer(schema, model, np.frombuffer(content, np.uint8))
        model.metadata = [*(model.metadata or []), entry]


def _add_tensor(schema: Any, model: Any, name: str, shape: tuple[int, ...], content: np.ndarray | None = None) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, list(shape), schema.TensorType.FLOAT32
    tensor.buffer = 0 if content is None else _add_buffer(schema, model, content)
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _add_operator(schema: Any, model: Any, operation: int, operator: Any) -> None:
    """Add an operator at the end of a model, and its kind to the model's list where it is the first of it."""
    codes = model.operatorCodes
    indices = [index for index, code in enumerate(codes) if code.builtinCode == operation]
    if not indices:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = operation
        code.version = 1
        codes.append(code)
        indices = [len(codes) - 1]
    operator.opcodeIndex = indices[0]
    model.subgraphs[0].operators.append(operator)


def _packed(model: Any, size: int) -> bytes:
    """Return a model as a file; one of about `size` bytes is not copied again and again while it grows."""
    import flatbuffers

    builder = flatbuffers.Builder(size + size // 16 + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())
