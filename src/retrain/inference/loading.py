"""Loads a model file as a classifier, completed by what its user says."""

from dataclasses import replace
from pathlib import Path

from retrain.errors import GraphError
from retrain.formats.classifier import Classifier
from retrain.formats.litert.model import is_form_of
from retrain.formats.table import FROZEN_GRAPH, format_of, path_of
from retrain.metadata import Metadata, find_labels_file, read_labels, without_numbers

_RANGES = (
    "Mean and std are 127.5 and 127.5 where it takes -1 to 1, as Teachable Machine's models do, 0 and 255 where it "
    "takes 0 to 1, 0 and 1 where it takes pixels as they are."
)


def load(graph: Path, *, labels: Path | None = None, overrides: Metadata | None = None) -> Classifier:
    """Return the classifier in a model file; its LiteRT form, if that lies beside a frozen graph.

    Args:
        graph: A model of any of the formats in `formats.table`, of retrain, of the original `retrain.py` or of anyone
            who names the rest.
        labels: A labels file; by default the model's own, or the file beside it that the codelab's names suggest.
        overrides: Values that the user gave, which go before what the model says.

    Raises:
        GraphError: Something is missing: says which flag gives it.
    """
    path = file_to_load(graph, overrides)
    metadata = describe(path, labels=labels, overrides=overrides)
    _check_complete(graph, metadata)
    model = format_of(path).load(path, metadata)
    _check_label_count(graph, model)
    return model


def describe(path: Path, *, labels: Path | None = None, overrides: Metadata | None = None) -> Metadata:
    """Return what is known of a model: what it says, its labels file, and what the user says, which goes first.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    metadata = (overrides or Metadata()).filled_from(format_of(path).describe(path))
    file = labels or (None if metadata.labels else find_labels_file(path))
    if file is None:
        return metadata
    names = read_labels(file)
    return replace(metadata, labels=names if metadata.retrain_version else without_numbers(names))


def file_to_load(graph: Path, overrides: Metadata | None = None) -> Path:
    """Return the file that is loaded for a model: the LiteRT form beside a frozen graph, if it is of this very graph.

    Overrides of what the graph takes or gives are meant for the graph itself.
    """
    if format_of(graph) is not FROZEN_GRAPH:
        return graph
    if overrides and (overrides.output or overrides.input.node or any(overrides.input.size)):
        return graph
    litert = path_of(graph, "tflite")
    return litert if is_form_of(litert, graph) else graph


def _check_complete(graph: Path, metadata: Metadata) -> None:
    spec = metadata.input
    values = {
        "--input_layer": spec.node,
        "--output_layer": metadata.output,
        "--input_height": spec.height,
        "--input_width": spec.width,
        "--input_mean": spec.mean,
        "--input_std": spec.std,
        "--labels": metadata.labels or None,
    }
    missing = [flag for flag, value in values.items() if value is None]
    if missing:
        hint = f" {_RANGES}" if "--input_std" in missing else ""
        raise GraphError(f"{graph} does not say everything that is needed to run it. Give {', '.join(missing)}.{hint}")


def _check_label_count(graph: Path, model: Classifier) -> None:
    count = model.class_count
    if count is not None and count != len(model.metadata.labels):
        raise GraphError(
            f"{graph} has {count} classes, but there are {len(model.metadata.labels)} labels. "
            f"Name the right file with --labels."
        )
