"""ONNX models: writes a classifier that takes uint8 pixels, and runs ONNX files in ONNX Runtime."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from retrain.errors import ExportError, GraphError, first_line, printable
from retrain.files import check_writable, write_result
from retrain.formats.classifier import (
    Classifier,
    ExportSource,
    ModelStats,
    check_image_shape,
    check_model,
    does_not_run,
    read_model,
)
from retrain.graphs import editing, nodes
from retrain.metadata import METADATA_NOTE, Metadata
from retrain.preprocessing import InputSpec

INPUT, OUTPUT = "image", "probabilities"
# What images go in as, by the type of the input.
_TYPES = {
    **{"tensor(uint8)": np.uint8, "tensor(float)": np.float32},
    **{"tensor(float16)": np.float16, "tensor(double)": np.float64},
}
_OPSET = 17  # known to TensorRT 8.6, OpenVINO 2023 and ONNX Runtime 1.12, and all that came since


def check(path: Path) -> None:
    """Fail now, not after the training, where a model cannot be written or the converter is missing."""
    check_writable(path)
    try:
        for name in ("onnxruntime", "tf2onnx"):
            import_module(name)
    except Exception as error:  # releases of onnx and numpy that do not go together raise AttributeError and others
        raise ExportError(
            f"--export onnx needs tf2onnx and onnxruntime ({first_line(error)}). "
            f"Install them: pip install --upgrade tf2onnx onnxruntime"
        ) from error


def write(source: ExportSource, path: Path) -> None:
    """Write a classifier as an ONNX model with its metadata inside.

    It takes `image`, uint8 [N, height, width, 3], RGB, and scales it itself; it gives `probabilities`, float32 [N, C].
    """
    import tensorflow as tf
    import tf2onnx
    from onnx import helper

    metadata, spec = source.metadata, source.metadata.input
    with tf.Graph().as_default() as joined:
        image = tf.compat.v1.placeholder(tf.uint8, [None, spec.height, spec.width, 3], name=INPUT)
        (result,) = tf.graph_util.import_graph_def(
            nodes.in_tensorflow(_without_erfc(editing.to_portable(source.graph_def))),
            {spec.node: (tf.cast(image, tf.float32) - spec.mean) / spec.std},
            [nodes.tensor_name(metadata.output or "")],
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
    model.producer_name, model.producer_version = "retrain", metadata.retrain_version or ""
    note = metadata.with_io(INPUT, OUTPUT, mean=0.0, std=1.0).to_json()
    helper.set_model_props(model, {METADATA_NOTE: note, "labels": "\n".join(map(printable, metadata.labels))})
    write_result(path, model.SerializeToString(deterministic=True))


def describe(path: Path) -> Metadata:
    """Return the metadata of an ONNX model, or else what its input and output show."""
    session = _session(path)
    notes = session.get_modelmeta().custom_metadata_map
    if METADATA_NOTE in notes:
        try:
            return Metadata.from_json(notes[METADATA_NOTE])
        except ValueError as error:
            raise GraphError(f"{path} has damaged metadata ({first_line(error)}).") from error
    image, outputs = session.get_inputs()[0], session.get_outputs()
    # Some give the class itself before the scores.
    scores = [each for each in outputs if each.type in _TYPES and len(each.shape or (0, 0)) == 2]
    output = outputs[0].name if len(outputs) == 1 else scores[0].name if len(scores) == 1 else None
    sides = image.shape[2:4] if _channels_first(image) else image.shape[1:3]
    height, width = (side if isinstance(side, int) and side > 0 else None for side in sides)
    mean, std = (0.0, 1.0) if image.type == "tensor(uint8)" else (None, None)
    return Metadata(input=InputSpec(image.name, height, width, mean, std), output=output)


def stats(path: Path) -> ModelStats:
    """Return the operations and parameters of an ONNX model."""
    try:
        import onnx
    except ImportError as error:
        raise GraphError(f"{path} needs the package onnx. Install it: pip install onnx") from error
    graph = onnx.load_model_from_string(read_model(path)).graph
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return ModelStats(Counter(node.op_type for node in graph.node), sum(int(np.prod(tensor.dims)) for tensor in floats))


class OnnxModel(Classifier):
    """A classifier in an ONNX file."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.metadata, self.path = metadata, path
        self._session = _session(path)
        self._image = self._session.get_inputs()[0]
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if metadata.output not in outputs:
            raise GraphError(f"{path} gives {', '.join(outputs)}. Name one with --output_layer.")
        count = outputs[metadata.output][-1] if outputs[metadata.output] else None
        self.class_count = count if isinstance(count, int) else None

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Return what the model itself gives for images uint8 [N, H, W, 3]."""
        kind = _TYPES[self._image.type]
        values = pixels if kind is np.uint8 else self.metadata.input.scale(pixels).astype(kind, copy=False)
        if _channels_first(self._image):
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        try:
            (result,) = self._session.run([self.metadata.output], {self._image.name: values})
        except Exception as error:  # ONNX Runtime has its own family of errors, in a private module
            raise does_not_run(self.path, pixels.shape, error) from error
        return result  # type: ignore[no-any-return]


load = OnnxModel


def _session(path: Path) -> Any:
    check_model(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise GraphError(f"{path} needs ONNX Runtime. Install it: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are reported by the lines below
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise GraphError(f"{path} is not an ONNX model that runs here: {first_line(error)[:200]}.") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
        taken = "; ".join(f"{each.type} {each.shape}" for each in inputs)
        raise GraphError(f"{path} takes {taken}; a classifier takes one batch of RGB images, as numbers.")
    check_image_shape(path, inputs[0].shape, channels_first=_channels_first(inputs[0]))
    return session


def _channels_first(image: Any) -> bool:
    return bool(image.shape[3] != 3 and (image.shape[1] == 3 or image.shape[1] == 1 and image.shape[3] != 1))


def _without_erfc(graph: nodes.GraphDef) -> nodes.GraphDef:
    """Return the graph with 1 - erf(x) for erfc(x), which ONNX has not."""
    plain = nodes.copy_of(graph)
    for node in plain.node:
        if node.op == "Erfc":
            erf = nodes.copy_of(node)
            erf.name, erf.op = f"{node.name}/erf", "Erf"
            one = nodes.constant_node(f"{node.name}/one", np.array(1, np.float32))
            node.op = "Sub"
            node.input[:] = [one.name, erf.name]
            plain.node.extend([erf, one])
    return plain


def _rename(model: Any, names: dict[str, str]) -> None:
    """Give tensors of a model other names."""
    graph = model.graph
    for end in (*graph.input, *graph.output):
        end.name = names.get(end.name, end.name)
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
