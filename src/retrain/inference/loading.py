"""Loads a model file as a classifier; its metadata are completed by a labels file and by the user."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from retrain.errors import GraphError
from retrain.formats.classifier import Classifier, check_model, first_images, wrong_label_count
from retrain.formats.litert.model import belongs_to
from retrain.formats.table import FROZEN_GRAPH, format_of, path_of
from retrain.metadata import Metadata, find_labels_file, read_labels
from retrain.trust import judging

_RANGES = (
    "Mean and std are 127.5 and 127.5 where it takes -1 to 1, as Teachable Machine's models do, 0 and 255 where it "
    "takes 0 to 1, 0 and 1 where it takes pixels as they are, 123.675,116.28,103.53 and 58.395,57.12,57.375 where it "
    "takes them standardised by ImageNet's mean and deviation, as PyTorch's models do."
)


def load(graph: Path, *, labels: Path | None = None, overrides: Metadata | None = None) -> Classifier:
    """Return the classifier in a model file; that of the LiteRT model beside a frozen graph, if there is one.

    Args:
        graph: A model of any format in `formats.table`, of retrain, of the original `retrain.py` or of other tools.
        labels: A labels file; by default the model's own, or the file beside it that the codelab's names suggest.
        overrides: The user's own values, which replace those of the model.

    Raises:
        GraphError: Not such a model, refused, or incomplete: names the missing flags.
    """
    path, overrides = file_to_load(graph, overrides), overrides or Metadata()
    _judge(path, overrides)
    known = format_of(path).describe(path)
    _check_size(graph, known, overrides)
    metadata = _completed(path, known, labels, overrides)
    _check_complete(graph, metadata)
    try:
        model = format_of(path).load(path, metadata)
    except GraphError as error:
        raise _with_its_own_nodes(error, known, overrides) from error
    _check_label_count(graph, model)
    return model


def _judge(path: Path, overrides: Metadata) -> None:
    """Refuse a model, not known yet, that does harm where it is loaded and labels an image."""
    spec = overrides.input
    nodes = [spec.node, overrides.output, *spec.size]
    purpose = f"{judging.LABEL} {json.dumps(nodes)}" if any(nodes) else judging.LABEL
    runtimes = (format_of(path).runtime,)
    judging.judge(path, judging.Trial(partial(try_labelling, path, overrides), purpose, runtimes))


def try_labelling(path: Path, overrides: Metadata) -> bool:
    """Label a black and a noisy image with a model; return False for one that does not say what is needed for that."""
    metadata = overrides.filled_from(format_of(path).describe(path))
    if None in (metadata.input.node, *metadata.input.size, metadata.input.mean, metadata.input.std):
        return False
    model = format_of(path).load(path, metadata)
    for image in first_images(*metadata.input.size)[[0, -1]]:
        model(image[None])
    return True


def describe(path: Path, *, labels: Path | None = None, overrides: Metadata | None = None) -> Metadata:
    """Return the metadata of a model, completed by its labels file and replaced by the user's; as for `load`."""
    return _completed(path, format_of(path).describe(path), labels, overrides or Metadata())


def _completed(path: Path, known: Metadata, labels: Path | None, overrides: Metadata) -> Metadata:
    metadata = overrides.filled_from(known)
    file = labels or (None if metadata.labels else find_labels_file(path))
    if file is None:
        return metadata
    return replace(metadata, labels=read_labels(file, own=metadata.retrain_version is not None))


def file_to_load(graph: Path, overrides: Metadata | None = None) -> Path:
    """Return the file to load for a model: the LiteRT model beside a frozen graph, if it was written with this graph.

    Overrides of the graph's nodes or size are meant for the graph itself.

    Raises:
        GraphError: It is no regular file, or too large.
    """
    if graph.exists() and not graph.is_dir():
        check_model(graph)  # at once, before a runtime is imported
    if format_of(graph) is not FROZEN_GRAPH:
        return graph
    if overrides and (overrides.output or overrides.input.node or any(overrides.input.size)):
        return graph
    litert = path_of(graph, "tflite")
    return litert if litert.is_file() and belongs_to(litert, graph) else graph


def _check_size(graph: Path, known: Metadata, overrides: Metadata) -> None:
    """Refuse a size that is not the one that the model says it takes."""
    sides = ("--input_height", overrides.input.height, known.input.height), (
        "--input_width", overrides.input.width, known.input.width,
    )  # fmt: skip
    wrong = [f"{flag}={side}" for flag, side, own in sides if None not in (side, own) and side != own]
    if wrong:
        takes = f"{known.input.width or 'any'} x {known.input.height or 'any'} px"
        raise GraphError(f"{graph} takes images of {takes}, and {' '.join(wrong)} was given. Leave that out.")


def _with_its_own_nodes(error: GraphError, known: Metadata, overrides: Metadata) -> GraphError:
    """Return the error of a model that cannot be loaded with the user's node names, with those that it has itself."""
    nodes = (
        ("--input_layer", overrides.input.node, known.input.node),
        ("--output_layer", overrides.output, known.output),
    )
    wrong = [(flag, name, own) for flag, name, own in nodes if name and own and name != own]
    if not wrong or f"Name one with {wrong[0][0]}" in str(error):  # after a list of those that there are
        return error
    said = " and ".join(f"its {flag} is {own!r}, and {name!r} was given" for flag, name, own in wrong)
    size = " The size of images goes with --input_height and --input_width." if wrong[0][1].isdigit() else ""
    return GraphError(f"{error} By its own account, {said}: leave that out.{size}")


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
    # Which outputs there are is known where the model is loaded, and said there.
    if missing and missing != ["--output_layer"]:
        hint = f" {_RANGES}" if "--input_std" in missing else ""
        raise GraphError(f"{graph} does not say everything that is needed to run it. Give {', '.join(missing)}.{hint}")


def _check_label_count(graph: Path, model: Classifier) -> None:
    count = model.class_count
    labels = model.metadata.labels
    if count is not None and count != len(labels) and (count, len(labels)) != (1, 2):
        raise wrong_label_count(graph, count, labels)
