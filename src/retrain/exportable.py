"""The formats that a classifier can be exported in, as rows: the ending of their file, and how exact they are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One format.

    `ending` follows the name of the frozen graph without its own. `tolerance` is how far a probability may be from
    the frozen graph's, so that images whose best classes are no further apart may be given either, None where the
    accuracy alone counts.
    """

    ending: str
    tolerance: float | None


FORMATS = {
    "saved_model": Format("_saved_model", 2e-3),
    "tflite": Format(".tflite", 2e-3),
    "tflite_fp16": Format("_fp16.tflite", 2e-2),
    "tflite_int8": Format("_int8.tflite", None),
    "keras": Format(".keras", 2e-3),
    "onnx": Format(".onnx", 2e-3),
}
