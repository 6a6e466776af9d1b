"""Writes what a training leaves behind; the graph is loaded again and compared before it takes the last one's place."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from retrain import (
    __version__,
    checkpoint,
    evaluation,
    export,
    export_litert,
    export_saved_model,
    freeze,
    graphs,
    run_graph,
    run_litert,
)
from retrain.backbone import Backbone
from retrain.engine import Engine
from retrain.errors import ExportError
from retrain.files import aside
from retrain.head import Head
from retrain.metadata import Metadata
from retrain.parts import Gather

PARITY = 2e-3  # how far the written graph may be from what was trained, of a probability or the largest feature


@dataclass(frozen=True)
class Artefacts:
    """What a trained head is joined with, and how the nodes of the result are named."""

    backbone: Backbone
    engine: Engine
    class_names: tuple[str, ...]
    output: str
    scope: str

    def write_graph(self, path: Path, head: Head, *, test_accuracy: float | None = None) -> Metadata:
        """Write the frozen graph of a head and return what it says of itself.

        Raises:
            ExportError: The file cannot be written.
        """
        described = self._metadata(test_accuracy)
        export.write(path, self._graph(head, described))
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
            tensorflow_version=metadata.version("tensorflow"),
        )

    def _graph(self, head: Head, described: Metadata) -> bytes:
        return export.joined_graph(
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
        expected = export.score(head.probabilities, read, testing, count)
        accuracy = evaluation.accuracy(expected, truths) if len(testing) else None
        draft = aside(graph)
        try:
            described = self.write_graph(draft, head, test_accuracy=accuracy)
            written = run_graph.GraphModel(draft, run_graph.describe(draft))
            scored = export.score(written.from_bottlenecks, read, testing, count)
            self._check_graph(graph, written, scored, expected)
            # Only a graph that passed takes the place of the last one.
            draft.replace(graph)
        finally:
            draft.unlink(missing_ok=True)
        export.write_labels(labels, self.class_names)
        if self.engine.model:
            self._write_litert(graph, self.engine.model, head, described)
        return scored

    def write_saved_model(self, folder: Path, graph: Path) -> None:
        """Write a SavedModel of a graph that was written, loaded again and compared with it.

        Raises:
            ExportError: The folder cannot be written, or the model in it differs from the graph.
        """
        import tensorflow as tf

        described = run_graph.describe(graph)
        export_saved_model.write_as_the_original(folder, graphs.read(graph), described)
        picture = freeze.probe_image(self.engine.height, self.engine.width)[None]
        image = tf.constant(picture.astype(np.float32) / 255)
        predicted = tf.saved_model.load(str(folder)).signatures["serving_default"](image)["prediction"].numpy()
        _check_close(folder, "probabilities", predicted, run_graph.GraphModel(graph, described)(picture))

    def _write_litert(self, graph: Path, backbone: Path, head: Head, described: Metadata) -> None:
        lite = export.litert_path(graph)
        export.write(lite, export_litert.float32(graph, backbone=backbone, told=described, head=head))
        picture = freeze.probe_image(self.engine.height, self.engine.width)
        trained = head.probabilities(self.engine.runner()(picture)[None])
        written = run_litert.LiteRTModel(lite, run_litert.describe(lite))
        _check_close(lite, "probabilities", written(picture[None]), trained)

    def _check_graph(self, path: Path, written: run_graph.GraphModel, scored: np.ndarray, expected: np.ndarray) -> None:
        """Refuse a written graph whose head or backbone differs from what was trained."""
        _check_close(path, "probabilities", scored, expected)
        # One picture goes through the file's backbone; the test images need not be read again for it.
        picture = freeze.probe_image(self.engine.height, self.engine.width)
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
