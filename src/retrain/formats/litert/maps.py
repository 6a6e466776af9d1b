"""Finds the last feature maps in a LiteRT model that ends in their mean, and counts what an image takes."""

import math
from typing import Any

from retrain.formats.litert.flatbuffer import opened_model, operators_behind


def with_maps(model: bytes) -> bytes | None:
    """Return a model that gives the feature maps, [1, h, w, C], whose mean over all places another one gives.

    Nothing is converted: one number in the file says which tensor the model gives.

    Returns:
        None where the model ends otherwise, in layers behind the mean, say; or where the maps have a single place.

    Raises:
        ValueError: Not a LiteRT model.
    """
    changed = bytearray(model)
    with opened_model(changed) as opened:
        graph = opened.Subgraphs(0)
        outputs = graph.OutputsAsNumpy()
        signatures = [opened.SignatureDefs(number) for number in range(opened.SignatureDefsLength())]
        # The outputs of a signature would name a tensor that is no output any more.
        is_named = any(signature.OutputsLength() for signature in signatures)
        maps = _maps_behind(opened, outputs[0]) if len(outputs) == 1 and not is_named else None
        if maps is None:
            return None
        outputs[0] = maps
    return bytes(changed)


def _maps_behind(opened: Any, tensor: int) -> int | None:
    """Return the tensor whose mean over rows and columns a tensor of a model is, None where it is no such mean."""
    from ai_edge_litert import schema_py_generated as schema

    kinds, graph = schema.BuiltinOperator, opened.Subgraphs(0)
    for operator, kind in operators_behind(opened, tensor):
        if kind in (kinds.RESHAPE, kinds.SQUEEZE):
            continue
        source = operator.Inputs(0)
        shape, pooled = _shape(graph, source), _shape(graph, operator.Outputs(0))
        is_mean = kind in (kinds.MEAN, kinds.AVERAGE_POOL_2D) and len(shape) == 4 and shape[0] == 1
        # Maps of a single place, as of a photo of 32 pixels, say nothing.
        has_places = math.prod(shape[1:3]) > 1
        return source if is_mean and has_places and math.prod(pooled) == shape[3] == pooled[-1] else None
    return None


def _shape(graph: Any, tensor: int) -> list[int]:
    found = graph.Tensors(tensor)
    return found.ShapeAsNumpy().tolist() if found.ShapeLength() else []


def multiplications(model: bytes) -> int:
    """Return about how many multiplications a model takes for an image: those of convolutions and dense layers.

    Raises:
        ValueError: Not a LiteRT model.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds, total = schema.BuiltinOperator, 0
    with opened_model(model) as opened:
        graph = opened.Subgraphs(0)
        for number in range(graph.OperatorsLength()):
            operator = graph.Operators(number)
            code = opened.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            if code in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED):
                result, weights = (_shape(graph, tensor) for tensor in (operator.Outputs(0), operator.Inputs(1)))
                each = weights[1:3] if code == kinds.DEPTHWISE_CONV_2D else weights[1:]
                total += math.prod(result) * math.prod(each)
    return total
