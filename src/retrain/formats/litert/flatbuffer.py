"""Edits and reads LiteRT model files: adds a head to a backbone, and metadata to a model.

A converted backbone is kept for every later run; its head is added in milliseconds, where converting the whole
network again would take seconds. Format: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/schema/schema.fbs
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.head import Head

_IDENTIFIER = b"TFL3"
_LARGEST_FACTOR = 0.02  # that brings pixels 0 to 255 to [-1, 1] or [0, 1]


def add_head(backbone: bytes, head: Head, *, output: str) -> bytes:
    """Return a model that ends in the probabilities of a head.

    Args:
        backbone: A float32 model of one input and one output, [1, D].
        head: Takes its output.
        output: Name of the output tensor.
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
    return _packed(model)


def add_metadata(model: bytes, notes: dict[str, bytes]) -> bytes:
    """Return a model with more metadata, bytes by their names."""
    from ai_edge_litert import schema_py_generated as schema

    opened = schema.ModelT.InitFromPackedBuf(model)
    for name, content in notes.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, _add_buffer(schema, opened, np.frombuffer(content, np.uint8))
        opened.metadata = [*(opened.metadata or []), entry]
    return _packed(opened)


@dataclass(frozen=True)
class TensorInfo:
    """The first input or output of a model; `scale` is 0 where it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: type
    scale: float
    zero_point: int


def read_metadata(model: bytes) -> dict[str, bytes]:
    """Return the metadata in a model by name.

    Raises:
        ValueError: Not a LiteRT model.
    """
    with _opened(model) as opened:
        entries = [opened.Metadata(i) for i in range(opened.MetadataLength())]
        return {
            entry.Name().decode(): bytes(opened.Buffers(entry.Buffer()).DataAsNumpy())
            for entry in entries
            if opened.Buffers(entry.Buffer()).DataLength()
        }


def io_tensors(model: bytes) -> tuple[TensorInfo, TensorInfo]:
    """Return the first input and the first output of a model.

    Raises:
        ValueError: Not a LiteRT model.
    """
    with _opened(model) as opened:
        graph = opened.Subgraphs(0)
        return _tensor_info(graph.Tensors(graph.Inputs(0))), _tensor_info(graph.Tensors(graph.Outputs(0)))


def _tensor_info(tensor: Any) -> TensorInfo:
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.UINT8: np.uint8, schema.TensorType.INT8: np.int8}
    quantization = tensor.Quantization()
    quantised = quantization is not None and quantization.ScaleLength() == 1
    return TensorInfo(
        tensor.Name().decode(),
        tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else (),
        dtypes.get(tensor.Type(), np.float32),
        float(quantization.Scale(0)) if quantised else 0.0,
        int(quantization.ZeroPoint(0)) if quantised else 0,
    )


def scales_pixels(model: bytes) -> bool:
    """Return whether a model begins with bringing pixels 0 to 255 into its own range, as Keras' Rescaling does.

    Raises:
        ValueError: Not a LiteRT model.
    """
    from ai_edge_litert import schema_py_generated as schema

    with _opened(model) as opened:
        graph = opened.Subgraphs(0)
        operators = (graph.Operators(i) for i in range(graph.OperatorsLength()))
        readers = [operator for operator in operators if graph.Inputs(0) in operator.InputsAsNumpy().tolist()]
        codes = [opened.OperatorCodes(reader.OpcodeIndex()).BuiltinCode() for reader in readers]
        if codes != [schema.BuiltinOperator.MUL]:
            return False
        others = [index for index in readers[0].InputsAsNumpy().tolist() if index != graph.Inputs(0)]
        if not others:  # the pixels times themselves
            return False
        buffer = opened.Buffers(graph.Tensors(others[0]).Buffer())
        factors = buffer.DataAsNumpy().view(np.float32) if buffer.DataLength() else np.ones(1)
        return bool(np.all(np.abs(factors) < _LARGEST_FACTOR))


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
def _opened(model: bytes) -> Iterator[Any]:
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


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())
