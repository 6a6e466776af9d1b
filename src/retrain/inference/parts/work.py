"""What a worker does: it opens the model once, labels shard after shard, and writes a part of each."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retrain import files, workers
from retrain.cluster.tasks import Task
from retrain.errors import ClusterError, ExportError, RetrainError
from retrain.formats.classifier import Classifier
from retrain.formats.table import format_of
from retrain.inference import prediction
from retrain.inference.lines import count_errors, heading, lines_of
from retrain.inference.parts.reading import read_ahead
from retrain.inference.parts.shards import Shard
from retrain.inference.prediction import ImagePrediction, Read
from retrain.metadata import Metadata
from retrain.storage import access
from retrain.storage.folders import Folder

_WAITING = 256  # photos whose answers may wait for that of an earlier one


@dataclass(frozen=True)
class Shipped:
    """A model on its way to other machines: the bytes of its files by name, and its metadata as the user has them."""

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    metadata: Metadata

    def open(self, threads: int) -> list[Classifier]:
        """Return the classifier for each of some threads; the files are gone again by then, for workers are killed.

        Raises:
            GraphError: This machine cannot run it.
        """
        with TemporaryDirectory(prefix="retrain_worker_", ignore_cleanup_errors=True) as folder:
            path = Path(folder, self.name)
            for name, data in self.files.items():
                files.write_atomically(path.parent / name, data)
            return _for_threads(format_of(path).load(path, self.metadata), threads)


def shipped(model: Classifier) -> Shipped:
    """Return a model that is loaded here as what other machines load."""
    path = model.path.absolute()
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    contents = {
        file.relative_to(path.parent).as_posix(): files.read_regular(file, files.MODEL_BYTES)
        for file in found
        if file.is_file()
    }
    return Shipped(path.name, contents, model.metadata)


@dataclass(frozen=True)
class Shared:
    """What all workers get.

    `form`, `k`, `min_score` and `views` say what is written of an image. Paths on this machine start from `home`, and
    `folders` are those whose photos are labelled. `largest` is what `files.bound_reading` was given.
    """

    model: Classifier | Shipped
    results: Folder
    form: str
    k: int
    min_score: float
    views: int
    home: Path
    folders: Sequence[Path] = ()
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker says about a part: how many photos it has, and how many of these could not be read."""

    photos: int
    unreadable: int


def open_worker(cores: int, shared: Mapping[str, Any]) -> Callable[[Task, int], Part]:
    """Return what labels shards on so many cores; `shared` has a `Shared`.

    Raises:
        ClusterError: This machine does not have the photos, or cannot run the model.
    """
    mine: Shared = shared["shared"]
    if isinstance(mine.model, Classifier):
        return Worker(mine, _for_threads(mine.model, cores))
    files.bound_reading(mine.largest)
    missing = next((folder for folder in mine.folders if not folder.exists()), None)
    if missing:
        raise _without_photos(missing)
    try:
        classifiers = mine.model.open(cores)
    except RetrainError as error:
        raise ClusterError(f"{platform.node()} cannot run the model: {error}") from error
    return Worker(mine, classifiers)


@dataclass(frozen=True)
class Worker:
    """Labels shards, with one classifier for each thread."""

    shared: Shared
    classifiers: Sequence[Classifier]

    def __call__(self, task: Task, attempt: int) -> Part:
        """Write the part of a shard, unless it is there, and return what it says.

        Raises:
            StorageError: The photos or the parts cannot be reached.
            ExportError: The part cannot be written.
        """
        shard: Shard = task.value
        storage, text = access.of(self.shared.results), None
        if attempt > 1:  # the worker that died may have written it
            text = _existing(self.shared.results, shard.part)
        if text is None:
            text = self.label(shard)
            try:
                won = storage.create(shard.part, text)
            except OSError as error:
                place = self.shared.results / shard.part
                raise ExportError(f"cannot write {place}: {error.strerror}. Give another --results.") from error
            if not won:
                text = _existing(self.shared.results, shard.part) or text
        return Part(len(shard.photos), count_errors(text, self.shared.form))

    def label(self, shard: Shard) -> bytes:
        """Return the part of a shard, UTF-8: the lines that `label_image` prints of its photos.

        Raises:
            StorageError: The photos cannot be reached.
            ClusterError: None of those that were listed is on this machine.
        """
        self._check_seen(shard)
        shared, waiting = self.shared, list(self.classifiers)

        def open_thread() -> Callable[[tuple[Folder, Read]], ImagePrediction]:
            model = waiting.pop()
            return lambda job: prediction.predict(model, *job, shared.views)

        jobs, threads = read_ahead(shard.photos, shared.home), len(waiting)
        labels = self.classifiers[0].metadata.labels
        text = [heading(shared.form)]
        for image in workers.map_in_order(open_thread, jobs, threads=threads, waiting=_WAITING):
            ranked = prediction.ranked(image, labels, k=shared.k, min_score=shared.min_score)
            text.append(lines_of(ranked, shared.form))
        return "".join(text).encode()

    def _check_seen(self, shard: Shard) -> None:
        """Refuse to call photos missing that the driver has seen, each of them."""
        seen = [photo.path for photo in shard.photos if photo.stamp and isinstance(photo.path, Path)]
        if seen and not any(access.stamp_of(self.shared.home / path.parent, path.name) for path in seen):
            raise _without_photos(self.shared.home / seen[0])


def _for_threads(model: Classifier, threads: int) -> list[Classifier]:
    return [model, *(model.for_thread() for _ in range(threads - 1))]


def _existing(results: Folder, part: str) -> bytes | None:
    try:
        return access.of(results).read(part)
    except FileNotFoundError:
        return None


def _without_photos(path: Path) -> ClusterError:
    return ClusterError(
        f"{platform.node()} has no {path}. Photos lie on a disk that all nodes have under the same name, or at a URL."
    )
