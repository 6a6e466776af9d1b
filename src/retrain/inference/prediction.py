"""Ranks the classes of images, on every core; `top_k(probabilities, k)` is pure."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from retrain import workers
from retrain.data import image_files
from retrain.data.decoding import decode
from retrain.errors import ImageError, UsageError
from retrain.formats.classifier import Classifier
from retrain.storage.folders import Folder, RemoteFolder

VIEWS = (1, 2)  # of an image: itself, and its mirror image too
_AHEAD = 1024  # images whose answers may wait for that of an earlier one
_READERS, _WAITING = 32, 64  # threads that read remote images, and images that may wait
Read = Callable[[], bytes]


@dataclass(frozen=True)
class ClassScore:
    """One class and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """One image's classes, best first; or the error why there are none."""

    path: Folder
    ranked: tuple[ClassScore, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ImagePrediction:
    """One image's probabilities, float32 [C]; or the error why there are none."""

    path: Folder
    probabilities: np.ndarray | None = None
    error: str | None = None


def top_k(probabilities: np.ndarray, k: int) -> list[int]:
    """Return the ids of the `k` largest of probabilities [C], largest first; equal ones in the order of their ids."""
    return np.argsort(-probabilities, kind="stable")[:k].tolist()  # type: ignore[no-any-return]


def predict_probabilities(model: Classifier, paths: Iterable[Folder], *, views: int = 1) -> Iterator[ImagePrediction]:
    """Yield the probabilities of each image, in the order of the paths, as they come; on every core.

    Args:
        model: From `load`.
        paths: Read one by one, so that they may come from a pipe, and be a million.
        views: One of `VIEWS`. Of two, the probabilities are averaged, which takes twice the time ("ImageNet
            Classification with Deep Convolutional Neural Networks", Krizhevsky et al., 2012, averages ten).

    Raises:
        UsageError: No such number of views.
        GraphError: The model does not take images of the size in its metadata, or has another number of classes.
    """
    if views not in VIEWS:
        raise UsageError(f"views is {views}; it must be {' or '.join(map(str, VIEWS))}.")
    threads = min(workers.cores(), len(paths)) if isinstance(paths, Sized) else workers.cores()
    waiting = [model]  # the first thread runs the model itself

    def open_worker() -> Callable[[tuple[Folder, Read]], ImagePrediction]:
        classifier = waiting.pop() if waiting else model.for_thread()
        return lambda job: predict(classifier, *job, views)

    yield from workers.map_in_order(open_worker, _opened(paths), threads=threads, waiting=_AHEAD)


def _opened(paths: Iterable[Folder]) -> Iterator[tuple[Folder, Read]]:
    """Yield each path with what returns its content; all are read ahead, many at once, where some are remote.

    Of paths that are still to come, the first one tells.
    """
    rest = iter(paths)
    first = list(itertools.islice(rest, 1))
    ahead = any(isinstance(path, RemoteFolder) for path in (paths if isinstance(paths, Sequence) else first))
    chained = itertools.chain(first, rest)
    if ahead:
        yield from workers.map_in_order(lambda: _fetched, chained, threads=_READERS, waiting=_WAITING)
    else:
        yield from ((path, functools.partial(image_files.read_image, path)) for path in chained)


def _fetched(path: Folder) -> tuple[Folder, Read]:
    try:
        return path, ready(image_files.read_image(path))
    except OSError as error:
        return path, ready(error)


def ready(content: bytes | OSError) -> Read:
    """Return what returns a content that is here already, or raises why there is none."""

    def read() -> bytes:
        if isinstance(content, OSError):
            raise content
        return content

    return read


def label(
    model: Classifier, paths: Iterable[Folder], *, k: int = 5, min_score: float = 0.0, views: int = 1
) -> Iterator[Prediction]:
    """Yield the `k` best classes of each image, without those below `min_score` (0 to 1), in the order of the paths.

    `views` is as for `predict_probabilities`.
    """
    names = model.metadata.labels
    for image in predict_probabilities(model, paths, views=views):
        yield ranked(image, names, k=k, min_score=min_score)


def ranked(image: ImagePrediction, names: Sequence[str], *, k: int, min_score: float) -> Prediction:
    """Return the `k` best of the classes with these names, without those below `min_score`."""
    if image.probabilities is None:
        return Prediction(image.path, error=image.error)
    best = [ClassScore(names[i], float(image.probabilities[i])) for i in top_k(image.probabilities, k)]
    return Prediction(image.path, tuple(score for score in best if score.score >= min_score))


def pixels(model: Classifier, content: bytes) -> np.ndarray:
    """Return an image file's content as the model takes it, uint8 [H, W, 3].

    Raises:
        ImageError: It is no image.
    """
    spec = model.metadata.input
    height, width = spec.size
    return decode(content, height=height, width=width, keep_aspect_ratio=spec.keep_aspect_ratio)


def mean_of_views(model: Classifier, image: np.ndarray, views: int) -> np.ndarray:
    """Return the probabilities float32 [C] of an image uint8 [H, W, 3], averaged over so many of its views.

    Of two views, those of a mirrored image are the same, bit by bit.
    """
    # One by one: a model may take no more than one image at once, or round otherwise where it takes two.
    rows = [model(view[None])[0] for view in (image, np.ascontiguousarray(image[:, ::-1]))[:views]]
    mean: np.ndarray = np.mean(rows, axis=0)  # of one row that row itself
    return mean


def predict(model: Classifier, path: Folder, read: Read, views: int) -> ImagePrediction:
    """Return the probabilities of one image, which `read` returns the content of, or why there are none."""
    try:
        image = pixels(model, read())
    except OSError as error:
        return ImagePrediction(path, error=image_files.unreadable_reason(path, error))
    except ImageError as error:
        return ImagePrediction(path, error=str(error))
    probabilities = mean_of_views(model, image, views)
    if not np.isfinite(probabilities).all():
        return ImagePrediction(path, error="the model gives NaN for it, which is no score")
    return ImagePrediction(path, probabilities)
