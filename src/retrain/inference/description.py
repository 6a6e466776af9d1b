"""What a model file is: all that `label_image --describe` prints."""

from collections.abc import Iterator
from pathlib import Path

from retrain import files
from retrain.formats.table import runtime
from retrain.inference import loading as model_loading
from retrain.metadata import Metadata

_SHOWN_LABELS = 20


def describe_model(path: Path, *, labels: Path | None = None, own: Metadata | None = None) -> list[str]:
    """Return what a model is, one line for each thing: input, size, range, output, labels, operations, size, origin.

    Args:
        path: A model of any format in `classifier`.
        labels: A labels file.
        own: What the user says, which goes before what the model tells.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    told = model_loading.describe(path, labels=labels, own=own)
    return [f"{name + ':':<12} {value}" for name, value in _rows(path, told)]


def _rows(path: Path, told: Metadata) -> Iterator[tuple[str, str]]:
    found = runtime(path)
    yield "file", str(path)
    yield "kind", found.kind
    yield "input", told.input or _missing("--input_layer")
    sized = told.width and told.height
    size = f"{told.width} x {told.height} px" if sized else _missing("--input_height and --input_width")
    yield "size", size
    yield "range", _range(told)
    yield "output", told.output or _missing("--output_layer")
    shown = ", ".join(told.labels[:_SHOWN_LABELS]) + (", ..." if len(told.labels) > _SHOWN_LABELS else "")
    yield "labels", f"{len(told.labels)}: {shown}" if told.labels else _missing("--labels")
    anatomy = found.anatomy(path)
    listed = ", ".join(f"{count} {name}" for name, count in anatomy.operations.most_common())
    yield "operations", f"{anatomy.operations.total()}: {listed}"
    yield "parameters", f"{anatomy.parameters:,}"
    yield "bytes", f"{files.size_of(path):,}"
    yield "trained by", _origin(told)


def _range(told: Metadata) -> str:
    if told.mean is None or told.std is None:
        return _missing("--input_mean and --input_std")
    low, high = (0 - told.mean) / told.std, (255 - told.mean) / told.std
    return f"{low:g} to {high:g}: (pixel - {told.mean:g}) / {told.std:g}"


def _origin(told: Metadata) -> str:
    if told.retrain_version is None:
        return "not known: not written by retrain"
    accuracy = "" if told.test_accuracy is None else f", test accuracy {told.test_accuracy:.1%}"
    return f"retrain {told.retrain_version} on {told.architecture}, TensorFlow {told.tensorflow_version}{accuracy}"


def _missing(flag: str) -> str:
    return f"not known; give {flag}"
