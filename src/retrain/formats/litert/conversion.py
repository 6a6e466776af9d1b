"""Converts frozen graphs to LiteRT models: as they are, with float16 weights, or in 8-bit arithmetic throughout."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retrain.errors import BackboneError, first_line
from retrain.graphs import editing
from retrain.graphs.nodes import GraphDef
from retrain.preprocessing import InputSpec


def to_float32(graph_def: GraphDef, spec: InputSpec, *, target: str) -> bytes:
    """Return the LiteRT model of the part of a graph from its image to a node: one float32 image in, one vector out.

    Raises:
        BackboneError: The graph has an operation that LiteRT's built-in ones do not cover.
    """
    return _convert(graph_def, spec, target, lambda converter: None)


def to_float16(graph_def: GraphDef, spec: InputSpec, *, target: str) -> bytes:
    """Return the same with its weights as float16, which take half the bytes and become float32 when it is loaded."""
    import tensorflow as tf

    def halve(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    return _convert(graph_def, spec, target, halve)


def to_int8(
    graph_def: GraphDef, spec: InputSpec, *, target: str, images: Sequence[np.ndarray], float_output: bool = False
) -> bytes:
    """Return the same in 8-bit arithmetic from its uint8 pixels to its uint8 scores, or to float32 values of these.

    Weights have one range for each output channel, and activations one that the images show (Jacob et al.,
    "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018). Black and
    white go in first, so that the range of the input is that of pixels and these go in as they are. Where each channel
    has a mean or deviation of its own, which the one range of a tensor cannot hold, the model scales pixels itself, or,
    with `float_output`, takes them scaled, as float32. `images` are some dozens or more of the training, uint8
    [H, W, 3] each.
    """
    import tensorflow as tf

    each_channel = isinstance(spec.mean, tuple) or isinstance(spec.std, tuple)
    taken = replace(spec, mean=0.0, std=1.0) if each_channel and not float_output else spec
    limits = [np.full_like(images[0], value) for value in (0, 255)]

    def representative_images() -> Any:
        for image in [*limits, *images]:
            yield [taken.scale(image[None])]

    def quantize(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative_images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.float32 if each_channel and float_output else tf.uint8
        converter.inference_output_type = tf.float32 if float_output else tf.uint8

    return _convert(graph_def, spec, target, quantize, inside=None if taken is spec else spec)


def _convert(
    graph_def: GraphDef,
    spec: InputSpec,
    target: str,
    adjust: Callable[[Any], None],
    *,
    inside: InputSpec | None = None,
) -> bytes:
    """Return a converted graph; it scales pixels 0 to 255 itself, as `inside` says, if that is not None."""
    import tensorflow as tf

    network = editing.as_function(editing.to_portable(graph_def), source=spec.node or "", target=target)
    network.inputs[0].set_shape([1, *network.inputs[0].shape[1:]])
    if inside is not None:
        scaled = tf.function(lambda pixels: network((pixels - inside.mean) / inside.std))
        network = scaled.get_concrete_function(tf.TensorSpec([1, *spec.size, 3], tf.float32, "pixels"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network])
    adjust(converter)
    try:
        with warnings.catch_warnings():
            # They are asked for only where a graph was trained with quantisation in it.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
            return converter.convert()  # type: ignore[no-any-return]
    except Exception as error:
        raise BackboneError(f"LiteRT cannot run this backbone ({first_line(error)[:120]}).") from error
