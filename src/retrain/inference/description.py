"""Describes a model file: the lines that `label_image --describe` prints."""

from collections.abc import Iterator
from pathlib import Path

from retrain.files import size_of
from retrain.formats.table import format_of, judge_reading
from retrain.inference.loading import describe
from retrain.metadata import Metadata
from retrain.preprocessing import CROP, LETTERBOX, InputSpec, scaling_text

_MAX_LABELS = 20  # that are listed
_KEPT = {
    None: "squashed to that size",
    LETTERBOX: "letterbox: scaled to fit in, between grey bars",
    CROP: "crop: their middle, scaled to fill it",
}


def describe_model(path: Path, *, labels: Path | None = None, overrides: Metadata | None = None) -> list[str]:
    """Return lines on a model, one for each property; arguments and errors as in `inference.loading.describe`."""
    judge_reading(path)
    metadata = describe(path, labels=labels, overrides=overrides)
    return [f"{name + ':':<12} {value}" for name, value in _rows(path, metadata)]


def _rows(path: Path, metadata: Metadata) -> Iterator[tuple[str, str]]:
    model_format, spec, names = format_of(path), metadata.input, metadata.labels
    yield "file", str(path)
    yield "kind", model_format.kind
    yield "input", spec.node or _missing("--input_layer")
    size = f"{spec.width} x {spec.height} px" if all(spec.size) else _missing("--input_height and --input_width")
    yield "size", size
    unknown = metadata.retrain_version is None and spec.keep_aspect_ratio is None
    yield "photos", _KEPT[spec.keep_aspect_ratio] + (", unless --keep_aspect_ratio is given" if unknown else "")
    yield "range", _range(spec)
    yield "output", metadata.output or _missing("--output_layer")
    listed = ", ".join(names[:_MAX_LABELS]) + (", ..." if len(names) > _MAX_LABELS else "")
    yield "labels", f"{len(names)}: {listed}" if names else _missing("--labels")
    stats = model_format.stats(path)
    operations = ", ".join(f"{count} {name}" for name, count in stats.operations.most_common())
    yield "operations", f"{stats.operations.total()}: {operations}"
    yield "parameters", f"{stats.parameters:,}"
    yield "bytes", f"{size_of(path):,}"
    if metadata.split:
        yield "split", str(metadata.split)
    yield "trained by", _origin(metadata)


def _range(spec: InputSpec) -> str:
    if spec.mean is None or spec.std is None:
        return _missing("--input_mean and --input_std")
    mean, std = spec.affine
    low, high = (
        scaling_text(tuple(end.tolist()) if end.ndim else float(end)) for end in ((0 - mean) / std, (255 - mean) / std)
    )
    return f"{low} to {high}: (pixel - {scaling_text(spec.mean)}) / {scaling_text(spec.std)}"


def _origin(metadata: Metadata) -> str:
    if metadata.retrain_version is None:
        return "not known: not written by retrain"
    accuracy = "" if metadata.test_accuracy is None else f", test accuracy {metadata.test_accuracy:.1%}"
    trained = f"retrain {metadata.retrain_version} on {metadata.architecture}"
    return f"{trained}, TensorFlow {metadata.tensorflow_version}{accuracy}"


def _missing(flag: str) -> str:
    return f"not known; give {flag}"
