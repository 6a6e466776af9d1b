"""Loads an exported model and ranks images; `top_k(probabilities, k)` is pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain import export, inputs, lean_tensorflow, run_litert, workers
from retrain.classifier import GRAPH, Classifier, runtime
from retrain.errors import GraphError, ImageError
from retrain.image import decode
from retrain.metadata import Metadata

_AHEAD = 1024  # images whose answers may wait for that of an earlier one
_RANGES = (
    "Mean and std are 127.5 and 127.5 where it takes -1 to 1, as Teachable Machine's models do, 0 and 255 where it "
    "takes 0 to 1, 0 and 1 where it takes pixels as they are."
)
_NUMBERED = re.compile(r"(\d+)[ :]+(\S.*)")


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


@dataclass(frozen=True)
class Scored:
    """One image's probabilities, float32 [C]; or the reason why there are none."""

    path: Path
    probabilities: np.ndarray | None = None
    error: str | None = None


def top_k(probabilities: np.ndarray, k: int) -> list[int]:
    """Return the ids of the `k` largest of probabilities [C], largest first; equal ones in the order of their ids."""
    return np.argsort(-probabilities, kind="stable")[:k].tolist()  # type: ignore[no-any-return]


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
    given = _given(own)
    path = graph if {"input", "output", "height", "width"} & given.keys() else _fastest(graph)
    told = described(path, labels=labels, own=own)
    _check_complete(graph, told)
    model = runtime(path).load(path, told)
    _check_label_count(graph, model)
    return model


def described(path: Path, *, labels: Path | None = None, own: Metadata | None = None) -> Metadata:
    """Return what is known of a model: what it tells, its labels file, and what the user says, which goes first.

    Raises:
        GraphError: Not a model of these kinds, or refused.
    """
    if runtime(path) is GRAPH:
        lean_tensorflow.install()
    told = replace(runtime(path).describe(path), **_given(own))
    file = labels or (None if told.labels else labels_beside(path))
    if file is None:
        return told
    names = export.read_labels(file)
    return replace(told, labels=names if told.retrain_version else _without_numbers(names))


def labels_beside(path: Path) -> Path | None:
    """Return the labels file that lies beside a model by its makers' habit, None where there is none.

    The codelab wrote retrained_labels.txt beside retrained_graph.pb; Teachable Machine writes labels.txt.
    """
    return next((file for file in (export.labels_path(path), path.with_name("labels.txt")) if file.is_file()), None)


def scores(model: Classifier, paths: Iterable[Path]) -> Iterator[Scored]:
    """Yield the probabilities of each image, in the order of the paths, as they come; on every core.

    Args:
        model: From `load`.
        paths: Taken one by one, so that they may come from a pipe, and be a million.

    Raises:
        GraphError: The model does not take images of the size that it was said to.
    """
    threads = min(workers.cores(), len(paths)) if isinstance(paths, Sized) else workers.cores()
    waiting = [model]  # the first thread runs the model itself

    def open_worker() -> Callable[[Path], Scored]:
        own = waiting.pop() if waiting else model.for_thread()
        return lambda path: _scored(own, path)

    yield from workers.in_order(open_worker, paths, threads=threads, waiting=_AHEAD)


def label(model: Classifier, paths: Iterable[Path], *, k: int = 5, min_score: float = 0.0) -> Iterator[Labelled]:
    """Yield the `k` best classes of each image, those below `min_score` left out, in the order of the paths.

    Args:
        model: From `load`.
        paths: Image files; of one that cannot be read the reason is yielded.
        k: How many classes.
        min_score: 0 to 1.
    """
    names = model.metadata.labels
    for scored in scores(model, paths):
        found = scored.probabilities
        if found is None:
            yield Labelled(scored.path, error=scored.error)
            continue
        best = [Ranked(names[i], float(found[i])) for i in top_k(found, k)]
        yield Labelled(scored.path, tuple(ranked for ranked in best if ranked.score >= min_score))


def pixels(model: Classifier, path: Path) -> np.ndarray:
    """Return an image file as the model takes it, uint8 [H, W, 3].

    Raises:
        OSError: The file cannot be read.
        ImageError: It is no image.
    """
    return decode(path.read_bytes(), height=model.metadata.height or 0, width=model.metadata.width or 0)


def _scored(model: Classifier, path: Path) -> Scored:
    try:
        picture = pixels(model, path)
    except OSError as error:
        return Scored(path, error=inputs.why_not(path, error))
    except ImageError as error:
        return Scored(path, error=str(error))
    return Scored(path, model(picture[None])[0])


def _given(own: Metadata | None) -> dict[str, Any]:
    return {} if own is None else {name: value for name, value in vars(own).items() if value not in (None, ())}


def _without_numbers(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels without the numbers that Teachable Machine writes in front: "0 cats", "1 dogs"."""
    found = [_NUMBERED.fullmatch(label) for label in labels]
    if any(match is None or int(match[1]) != number for number, match in enumerate(found)):
        return labels
    return tuple(match[2] for match in found if match)


def _fastest(graph: Path) -> Path:
    """Return the LiteRT form of a frozen graph where one lies beside it that is of this very graph."""
    beside = export.litert_path(graph)
    return beside if runtime(graph) is GRAPH and run_litert.is_form_of(beside, graph) else graph


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
