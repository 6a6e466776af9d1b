"""Loads an exported model and ranks images; `top_k(probabilities, k)` is pure."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import export, lean_tensorflow
from retrain.classifier import Classifier, GraphModel, LiteRTModel, Metadata, describe
from retrain.errors import GraphError, ImageError
from retrain.formats import EXTENSIONS
from retrain.image import decode


@dataclass(frozen=True)
class Ranked:
    """One class and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True)
class Labelled:
    """One image's classes, best first; or the reason why there are none."""

    path: Path
    ranked: tuple[Ranked, ...] = ()
    error: str | None = None


def top_k(probabilities: np.ndarray, k: int) -> list[int]:
    """Return the ids of the `k` largest of probabilities [C], largest first; equal ones in the order of their ids."""
    return np.argsort(-probabilities, kind="stable")[:k].tolist()  # type: ignore[no-any-return]


def load(graph: Path, *, labels: Path | None = None, own: Metadata | None = None) -> Classifier:
    """Return the classifier in a model file; its LiteRT form, if that lies beside a frozen graph.

    Args:
        graph: A frozen graph, of retrain, of the original `retrain.py` or of anyone who names the rest; or a
            `.tflite` that retrain wrote.
        labels: A labels file; by default the model's own, or the file beside it that the codelab's names suggest.
        own: Values that the user gave, which go before what the model tells.

    Raises:
        GraphError: Something is missing: says which flag gives it.
    """
    given = _given(own)
    path = graph if {"input", "output", "height", "width"} & given.keys() else _fastest(graph)
    told = described(path, labels=labels, own=own)
    _check_complete(graph, told)
    model = LiteRTModel(path, told) if path.suffix == ".tflite" else GraphModel(path, told)
    _check_label_count(graph, model)
    return model


def described(path: Path, *, labels: Path | None = None, own: Metadata | None = None) -> Metadata:
    """Return what is known of a model: what it tells, its labels file, and what the user says, which goes first.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    if path.suffix != ".tflite":
        lean_tensorflow.install()
    told = replace(describe(path), **_given(own))
    if labels is not None:
        return replace(told, labels=export.read_labels(labels))
    beside = labels_beside(path)
    return replace(told, labels=export.read_labels(beside)) if beside and not told.labels else told


def labels_beside(path: Path) -> Path | None:
    """Return the labels file that lies beside a model by the codelab's habit, None where there is none."""
    beside = export.labels_path(path)
    return beside if beside.exists() else None


def _given(own: Metadata | None) -> dict[str, Any]:
    return {} if own is None else {name: value for name, value in vars(own).items() if value not in (None, ())}


def _fastest(graph: Path) -> Path:
    """Return the LiteRT form of a frozen graph where one lies beside it that is of this very graph."""
    beside = export.litert_path(graph)
    try:
        same = describe(beside).graph_sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
    except (GraphError, OSError):
        return graph
    return beside if same else graph


def images(paths: Sequence[Path]) -> list[Path]:
    """Return the files that some paths name: a file itself, a folder's image files at any depth, sorted."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
        else:
            found.append(path)
    return found


def label(model: Classifier, paths: Sequence[Path], *, k: int = 5) -> Iterator[Labelled]:
    """Yield the best `k` classes of each image, in order; an unreadable image has an error instead."""
    for path in paths:
        try:
            image = pixels(model, path)
        except OSError as error:
            yield Labelled(path, error=error.strerror or str(error))
            continue
        except ImageError as error:
            yield Labelled(path, error=str(error))
            continue
        probabilities = model(image[None])[0]
        names = model.metadata.labels
        yield Labelled(path, tuple(Ranked(names[i], float(probabilities[i])) for i in top_k(probabilities, k)))


def pixels(model: Classifier, path: Path) -> np.ndarray:
    """Return an image file as the model takes it, uint8 [H, W, 3].

    Raises:
        OSError: The file cannot be read.
        ImageError: It is no image.
    """
    return decode(path.read_bytes(), height=model.metadata.height or 0, width=model.metadata.width or 0)


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
        raise GraphError(f"{graph} does not tell everything that is needed to run it. Give {', '.join(missing)}.")


def _check_label_count(graph: Path, model: Classifier) -> None:
    count = model.class_count
    if count is not None and count != len(model.metadata.labels):
        raise GraphError(
            f"{graph} has {count} classes, but there are {len(model.metadata.labels)} labels. "
            f"Name the right file with --labels."
        )
