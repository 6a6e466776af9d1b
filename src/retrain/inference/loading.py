"""Loads a model file as a classifier, completed by what its user says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from retrain import metadata
from retrain.errors import GraphError
from retrain.formats import table as format_table
from retrain.formats.classifier import Classifier
from retrain.formats.litert import model as litert_model
from retrain.formats.table import GRAPH, runtime
from retrain.metadata import Metadata, find_labels_file, without_numbers

_RANGES = (
    "Mean and std are 127.5 and 127.5 where it takes -1 to 1, as Teachable Machine's models do, 0 and 255 where it "
    "takes 0 to 1, 0 and 1 where it takes pixels as they are."
)


def load(graph: Path, *, labels: Path | None = None, own: Metadata | None = None) -> Classifier:
    """Return the classifier in a model file; its LiteRT form, if that lies beside a frozen graph.

    Args:
        graph: A model of any of the formats in `classifier`, of retrain, of the original `retrain.py` or of anyone
            who names the rest.
        labels: A labels file; by default the model's own, or the file beside it that the codelab's names suggest.
        own: Values that the user gave, which go before what the model tells.

    Raises:
        GraphError: Something is missing: says which flag gives it.
    """
    path = file_to_load(graph, own)
    told = describe(path, labels=labels, own=own)
    _check_complete(graph, told)
    model = runtime(path).load(path, told)
    _check_label_count(graph, model)
    return model


def file_to_load(graph: Path, own: Metadata | None = None) -> Path:
    """Return the file that `load` reads: where a frozen graph's LiteRT form lies beside it, that form.

    Nodes and sizes that the user names are the graph's, so with them it is the graph itself.
    """
    if {"input", "output", "height", "width"} & _given(own).keys() or runtime(graph) is not GRAPH:
        return graph
    beside = format_table.litert_path(graph)
    return beside if litert_model.is_form_of(beside, graph) else graph


def describe(path: Path, *, labels: Path | None = None, own: Metadata | None = None) -> Metadata:
    """Return what is known of a model: what it tells, its labels file, and what the user says, which goes first.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    told = replace(runtime(path).describe(path), **_given(own))
    file = labels or (None if told.labels else find_labels_file(path))
    if file is None:
        return told
    names = metadata.read_labels(file)
    return replace(told, labels=names if told.retrain_version else without_numbers(names))


def _given(own: Metadata | None) -> dict[str, Any]:
    return {} if own is None else {name: value for name, value in vars(own).items() if value not in (None, ())}


def _check_complete(graph: Path, described: Metadata) -> None:
    flags = {
        "input": "--input_layer",
        "output": "--output_layer",
        "height": "--input_height",
        "width": "--input_width",
        "mean": "--input_mean",
        "std": "--input_std",
        "labels": "--labels",
    }
    missing = [flag for name, flag in flags.items() if getattr(described, name) in (None, ())]
    if missing:
        hint = f" {_RANGES}" if "--input_std" in missing else ""
        raise GraphError(f"{graph} does not tell everything that is needed to run it. Give {', '.join(missing)}.{hint}")


def _check_label_count(graph: Path, model: Classifier) -> None:
    count = model.class_count
    if count is not None and count != len(model.metadata.labels):
        raise GraphError(
            f"{graph} has {count} classes, but there are {len(model.metadata.labels)} labels. "
            f"Name the right file with --labels."
        )
