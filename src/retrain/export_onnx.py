"""Writes a classifier as an ONNX model: uint8 pixels in, probabilities out, any number of images at once."""

from dataclasses import replace

import numpy as np

from retrain import graphs
from retrain.errors import ExportError, first_line, printable
from retrain.metadata import METADATA_NOTE, Metadata

INPUT, OUTPUT = "image", "probabilities"
_OPSET = 17  # known to TensorRT 8.6, OpenVINO 2023 and ONNX Runtime 1.12, and all that came since


def check_installed() -> None:
    """Fail now, not after the training, where the converter is missing.

    Raises:
        ExportError: Says how to install it.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except Exception as error:  # releases of onnx and numpy that do not go together raise AttributeError and others
        raise ExportError(
            f"--export onnx needs tf2onnx and onnxruntime ({first_line(error)}). "
            f"Install them: pip install --upgrade 'retrain[onnx]'"
        ) from error


def converted(graph: graphs.GraphDef, told: Metadata) -> bytes:
    """Return a frozen graph as an ONNX model with its metadata inside.

    It takes `image`, uint8 [N, height, width, 3], RGB, and scales it itself; it gives `probabilities`, float32 [N, C].

    Args:
        graph: A frozen graph.
        told: What it says of itself.

    Raises:
        ExportError: It has an operation that ONNX has not.
    """
    import tensorflow as tf
    import tf2onnx
    from onnx import helper

    with tf.Graph().as_default() as joined:
        image = tf.compat.v1.placeholder(tf.uint8, [None, told.height, told.width, 3], name=INPUT)
        values = (tf.cast(image, tf.float32) - told.mean) / told.std
        (result,) = tf.graph_util.import_graph_def(
            _without_erfc(graphs.portable(graph)),
            {told.input: values},
            [graphs.tensor_name(told.output or "")],
            name="network",
        )
        tf.identity(result, name=OUTPUT)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            joined.as_graph_def(),
            name="retrain",
            input_names=[f"{INPUT}:0"],
            output_names=[f"{OUTPUT}:0"],
            opset=_OPSET,
        )
    except Exception as error:  # the converter raises anything from ValueError to KeyError
        raise ExportError(f"ONNX has no form for this network: {first_line(error)[:200]}.") from error
    _rename(model, {f"{INPUT}:0": INPUT, f"{OUTPUT}:0": OUTPUT})
    model.producer_name, model.producer_version = "retrain", told.retrain_version or ""
    described = replace(told, input=INPUT, output=OUTPUT, bottleneck=None, mean=0.0, std=1.0)
    helper.set_model_props(
        model, {METADATA_NOTE: described.to_json(), "labels": "\n".join(map(printable, told.labels))}
    )
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _without_erfc(graph: graphs.GraphDef) -> graphs.GraphDef:
    """Return the graph with 1 - erf(x) for erfc(x), which ONNX has not."""
    plain = type(graph)()
    plain.CopyFrom(graph)
    for node in plain.node:
        if node.op == "Erfc":
            erf = type(node)()
            erf.CopyFrom(node)
            erf.name, erf.op = f"{node.name}/erf", "Erf"
            one = graphs.constant(f"{node.name}/one", np.array(1, np.float32))
            node.op = "Sub"
            node.input[:] = [one.name, erf.name]
            plain.node.extend([erf, one])
    return plain


def _rename(model: object, names: dict[str, str]) -> None:
    """Give tensors of a model other names."""
    graph = model.graph  # type: ignore[attr-defined]
    for end in (*graph.input, *graph.output):
        end.name = names.get(end.name, end.name)
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
