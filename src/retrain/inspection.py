"""What a model file is: all that `label_image --describe` prints."""

from collections.abc import Iterator
from pathlib import Path

from retrain import graphs, label, litert
from retrain.classifier import Metadata

_SHOWN_LABELS = 20


def lines(path: Path, *, labels: Path | None = None, own: Metadata | None = None) -> list[str]:
    """Return what a model is, one line for each thing: input, size, range, output, labels, operations, size, origin.

    Args:
        path: A frozen graph or a LiteRT model.
        labels: A labels file.
        own: What the user says, which goes before what the model tells.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    told = label.described(path, labels=labels, own=own)
    return [f"{name + ':':<12} {value}" for name, value in _rows(path, told)]


def _rows(path: Path, told: Metadata) -> Iterator[tuple[str, str]]:
    lite = path.suffix == ".tflite"
    yield "file", str(path)
    yield "kind", "LiteRT model" if lite else "frozen TensorFlow graph"
    yield "input", told.input or _missing("--input_layer")
    sized = told.width and told.height
    size = f"{told.width} x {told.height} px" if sized else _missing("--input_height and --input_width")
    yield "size", size
    yield "range", _range(told)
    yield "output", told.output or _missing("--output_layer")
    shown = ", ".join(told.labels[:_SHOWN_LABELS]) + (", ..." if len(told.labels) > _SHOWN_LABELS else "")
    yield "labels", f"{len(told.labels)}: {shown}" if told.labels else _missing("--labels")
    if lite:
        counted, parameters = litert.operations(path), litert.parameters(path)
    else:
        graph_def = graphs.read(path)
        counted, parameters = graphs.operations(graph_def), graphs.parameters(graph_def)
    listed = ", ".join(f"{count} {name}" for name, count in counted.most_common())
    yield "operations", f"{counted.total()}: {listed}"
    yield "parameters", f"{parameters:,}"
    yield "bytes", f"{path.stat().st_size:,}"
    yield "trained by", _origin(told)


def _range(told: Metadata) -> str:
    if told.mean is None or told.std is None:
        return _missing("--input_mean and --input_std")
    low, high = -told.mean / told.std, (255 - told.mean) / told.std
    return f"{low:g} to {high:g}: (pixel - {told.mean:g}) / {told.std:g}"


def _origin(told: Metadata) -> str:
    if told.retrain_version is None:
        return "not known: not written by retrain"
    accuracy = "" if told.test_accuracy is None else f", test accuracy {told.test_accuracy:.1%}"
    return f"retrain {told.retrain_version} on {told.architecture}, TensorFlow {told.tensorflow_version}{accuracy}"


def _missing(flag: str) -> str:
    return f"not known; give {flag}"
