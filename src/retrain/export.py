"""Writes what a training leaves behind; the graph is loaded again and compared before it takes the last one's place."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import __version__, files, metadata
from retrain.backbones.loading import Backbone
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.reading import Gather
from retrain.errors import ExportError
from retrain.evaluation import metrics
from retrain.files import temporary_sibling
from retrain.formats import checkpoint, frozen_graph, saved_model
from retrain.formats import table as format_table
from retrain.formats.litert import model as litert_model
from retrain.graphs import reading
from retrain.head import Head
from retrain.metadata import Metadata

PARITY = 2e-3  # how far the written graph may be from what was trained, of a probability or the largest feature


@dataclass(frozen=True)
class ClassifierWriter:
    """What a trained head is joined with, and how the nodes of the result are named."""

    backbone: Backbone
    engine: BackboneRunner
    class_names: tuple[str, ...]
    output: str
    scope: str

    def write_graph(self, path: Path, head: Head, *, test_accuracy: float | None = None) -> Metadata:
        """Write the frozen graph of a head and return what it says of itself.

        Raises:
            ExportError: The file cannot be written.
        """
        described = self._metadata(test_accuracy)
        files.write_result(path, self._graph(head, described))
        return described

    def size(self, head: Head) -> int:
        """Return the bytes that the frozen graph of a head takes."""
        return len(self._graph(head, self._metadata(None)))

    def _metadata(self, test_accuracy: float | None) -> Metadata:
        return Metadata(
            labels=self.class_names,
            input=self.backbone.source,
            output=self.output,
            height=self.backbone.height,
            width=self.backbone.width,
            mean=self.backbone.mean,
            std=self.backbone.std,
            architecture=self.backbone.architecture,
            test_accuracy=test_accuracy,
            retrain_version=__version__,
            tensorflow_version=importlib.metadata.version("tensorflow"),
        )

    def _graph(self, head: Head, described: Metadata) -> bytes:
        return frozen_graph.join(
            backbone=self.backbone.graph,
            source=self.backbone.source,
            target=self.backbone.target,
            scope=self.scope,
            metadata=described,
            head=head,
            output=self.output,
        )

    def write_checkpoint(self, prefix: Path, head: Head, step: int) -> None:
        """Write the variables of a head after some steps as a TensorFlow checkpoint.

        Raises:
            ExportError: The files cannot be written.
        """
        checkpoint.write_checkpoint(prefix, scope=self.scope, head=head, step=step)

    def write(
        self, graph: Path, labels: Path, head: Head, *, read: Gather, testing: np.ndarray, truths: np.ndarray
    ) -> np.ndarray:
        """Write graph, LiteRT model and labels; return the graph's own probabilities float32 [n, C] of test images.

        Args:
            graph: Where the frozen graph goes.
            labels: Where the labels go.
            head: What was trained.
            read: Reads bottlenecks.
            testing: int64 [n], what it reads of the test images.
            truths: int64 [n], their class ids.

        Raises:
            ExportError: A file could not be written, or differs from what was trained.
        """
        count = len(self.class_names)
        expected = score_bottlenecks(head.probabilities, read, testing, count)
        accuracy = metrics.accuracy(expected, truths) if len(testing) else None
        draft = temporary_sibling(graph)
        try:
            described = self.write_graph(draft, head, test_accuracy=accuracy)
            written = frozen_graph.GraphModel(draft, frozen_graph.describe(draft))
            scored = score_bottlenecks(written.from_bottlenecks, read, testing, count)
            self._check_graph(graph, written, scored, expected)
            # Only a graph that passed takes the place of the last one.
            draft.replace(graph)
        finally:
            draft.unlink(missing_ok=True)
        metadata.write_labels(labels, self.class_names)
        if self.engine.model:
            self._write_litert(graph, self.engine.model, head, described)
        return scored

    def write_saved_model(self, folder: Path, graph: Path) -> None:
        """Write a SavedModel of a graph that was written, loaded again and compared with it.

        Raises:
            ExportError: The folder cannot be written, or the model in it differs from the graph.
        """
        import tensorflow as tf

        described = frozen_graph.describe(graph)
        saved_model.write_as_the_original(folder, reading.read_graph(graph), described)
        picture = probe_image(self.engine.height, self.engine.width)[None]
        image = tf.constant(picture.astype(np.float32) / 255)
        predicted = tf.saved_model.load(str(folder)).signatures["serving_default"](image)["prediction"].numpy()
        _check_close(folder, "probabilities", predicted, frozen_graph.GraphModel(graph, described)(picture))

    def _write_litert(self, graph: Path, backbone: Path, head: Head, described: Metadata) -> None:
        lite = format_table.litert_path(graph)
        files.write_result(lite, litert_model.float32(graph, backbone=backbone, told=described, head=head))
        picture = probe_image(self.engine.height, self.engine.width)
        trained = head.probabilities(self.engine.runner()(picture)[None])
        written = litert_model.LiteRTModel(lite, litert_model.describe(lite))
        _check_close(lite, "probabilities", written(picture[None]), trained)

    def _check_graph(
        self, path: Path, written: frozen_graph.GraphModel, scored: np.ndarray, expected: np.ndarray
    ) -> None:
        """Refuse a written graph whose head or backbone differs from what was trained."""
        _check_close(path, "probabilities", scored, expected)
        # One picture goes through the file's backbone; the test images need not be read again for it.
        picture = probe_image(self.engine.height, self.engine.width)
        trained_on = self.engine.run_one(picture)
        largest = max(1e-6, float(np.abs(trained_on).max()))
        _check_close(path, "bottlenecks", written.bottlenecks(picture[None])[0] / largest, trained_on / largest)


def _check_close(path: Path, what: str, in_file: np.ndarray, trained: np.ndarray) -> None:
    difference = float(np.abs(in_file - trained).max(initial=0.0))
    if not difference <= PARITY:
        raise ExportError(
            f"{path} gives {what} that differ by {difference:.2g} from those of the trained network "
            f"(at most {PARITY:g} is accepted). Delete the folder of its bottlenecks and run again."
        )


_SCORED_AT_ONCE = 4096


def score_bottlenecks(
    probabilities: Callable[[np.ndarray], np.ndarray],
    read: Callable[[np.ndarray], np.ndarray],
    examples: np.ndarray,
    class_count: int,
) -> np.ndarray:
    """Return the probabilities float32 [n, C] of examples, a few thousand bottlenecks in memory at a time.

    Args:
        probabilities: From bottlenecks float32 [n, D] to probabilities float32 [n, C].
        read: From indices int64 [n] to bottlenecks.
        examples: int64 [n], indices.
        class_count: C.
    """
    scored = np.zeros((len(examples), class_count), np.float32)
    for start in range(0, len(examples), _SCORED_AT_ONCE):
        rows = slice(start, start + _SCORED_AT_ONCE)
        scored[rows] = probabilities(read(examples[rows]))
    return scored


def probe_image(height: int, width: int) -> np.ndarray:
    """Return a fixed colourful picture, uint8 [height, width, 3], to compare two forms of one network with."""
    rows = np.arange(height)[:, None, None]
    columns = np.arange(width)[None, :, None]
    channels = np.arange(3)[None, None, :]
    waves = np.sin(rows / (7.0 + channels)) + np.cos(columns / (11.0 - channels)) + np.sin((rows + columns) / 23.0)
    return np.clip(127.5 + waves * 42.5, 0, 255).astype(np.uint8)
