"""The export stage: joins head and backbone, writes the graph, reads it back, and compares it with the training."""

import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain import __version__, metadata
from retrain.backbones.loading import Backbone, checksum_of, is_verified, mark_verified
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.reading import Gather
from retrain.errors import ExportError, UsageError
from retrain.evaluation import metrics
from retrain.files import aside, draft_folder, put_in_place, write_result
from retrain.formats import checkpoint, frozen_graph, saved_model
from retrain.formats.checkpoint import CheckpointFiles
from retrain.formats.classifier import TrainedClassifier
from retrain.formats.litert import model as litert_model
from retrain.formats.table import path_of
from retrain.graphs.nodes import GraphDef
from retrain.graphs.reading import read_graph
from retrain.head import Head
from retrain.metadata import Metadata, TrainingSplit
from retrain.trust import judging

PARITY = 2e-3  # largest difference from the trained network, of a probability or relative to the largest feature
_SCORED_AT_ONCE = 4096
_IN_MEMORY = 2**28  # bytes of the scores of all photos


@dataclass(frozen=True)
class LabelledBottlenecks:
    """The bottlenecks of some photos, read when they are needed, and their class ids.

    `read` returns those of the indices `rows` int64 [n]; `labels` int64 [n].
    """

    read: Gather
    rows: np.ndarray
    labels: np.ndarray

    def score(self, probabilities: Callable[[np.ndarray], np.ndarray], *, class_count: int) -> np.ndarray:
        """Return probabilities float32 [n, C]; the function gets a few thousand bottlenecks [m, D] at a time."""
        scores = _scratch(len(self.rows), class_count)
        for start in range(0, len(self.rows), _SCORED_AT_ONCE):
            part = slice(start, start + _SCORED_AT_ONCE)
            scores[part] = probabilities(self.read(self.rows[part]))
        return scores


@dataclass(frozen=True)
class WrittenGraph:
    """A frozen graph that was written and read back, and its probabilities float32 [n, C] of the test photos."""

    graph_def: GraphDef
    metadata: Metadata
    sha256: str
    probabilities: np.ndarray


@dataclass(frozen=True)
class ClassifierWriter:
    """Joins heads with a backbone and writes them; `output` and `scope` as in `TrainedClassifier`.

    `split` is how the photos were split that the heads are trained on. Of several workers on one training, `is_chief`
    tells which one writes checkpoints; they may share a disk.
    """

    runner: BackboneRunner
    class_names: tuple[str, ...]
    output: str
    scope: str
    split: TrainingSplit | None = None
    is_chief: bool = True

    @property
    def backbone(self) -> Backbone:
        """Return the backbone that heads are joined with."""
        return self.runner.backbone

    def check_output(self) -> None:
        """Refuse an output that is called like a node of the backbone.

        Raises:
            UsageError: It is.
        """
        name, graph = self.output, self.backbone.graph
        # Looking for the bytes costs little; only a graph that has them is read.
        if name.encode() in graph.read_bytes() and any(node.name == name for node in read_graph(graph).node):
            raise UsageError(f"--final_tensor_name is {name!r}, as a node of the backbone is called. Give another.")

    def write_graph(self, path: Path, head: Head) -> None:
        """Write the frozen graph of a head whose test accuracy is not known.

        Raises:
            ExportError: The file cannot be written.
        """
        write_result(path, self._join(head))

    def size(self, head: Head) -> int:
        """Return the bytes that the frozen graph of a head takes."""
        return len(self._join(head))

    def write_checkpoint(self, files: CheckpointFiles, head: Head, step: int) -> None:
        """Write the variables of a head after some steps, unless another worker does.

        Raises:
            ExportError: The files cannot be written.
        """
        if self.is_chief:
            checkpoint.write(files, scope=self.scope, head=head, step=step)

    def write(self, draft: Path, head: Head, test: LabelledBottlenecks) -> WrittenGraph:
        """Write graph and LiteRT model aside; return the graph as it was read back, with its scores of `test`.

        Args:
            draft: Where the graph goes until `put_in_place`, in a folder of this run.
            head: The trained head.
            test: The photos to score.

        Raises:
            ExportError: A file could not be written, or differs from what was trained.
        """
        count = len(self.class_names)
        expected = test.score(head.probabilities, class_count=count)
        accuracy = metrics.accuracy(expected, test.labels) if len(test.labels) else None
        write_result(draft, self._join(head, accuracy))
        written = self._read_back(draft, test)
        _check_parity(draft.name, "probabilities", written.probabilities, expected)
        if self.runner.model:
            self._write_litert(path_of(draft, "tflite"), head, written)
        return written

    def put_in_place(self, draft: Path, graph: Path, labels: Path) -> None:
        """Give a graph that `write` wrote and its LiteRT model their names, and write the labels file.

        The graph comes last: its hash in the LiteRT model shows that they belong together.

        Raises:
            ExportError: A file cannot be written.
        """
        draft_labels = aside(draft)
        metadata.write_labels(draft_labels, self.class_names)
        litert = [(path_of(draft, "tflite"), path_of(graph, "tflite"))] if self.runner.model else []
        put_in_place([(draft_labels, labels), *litert, (draft, graph)])
        for path in (draft, *(each for each, _ in litert)):
            judging.accept(path)

    def write_saved_model(self, folder: Path, written: WrittenGraph) -> None:
        """Write the original's SavedModel of a graph that was written, loaded again and compared with it.

        Raises:
            ExportError: The folder cannot be written, or the model in it differs from the graph.
        """
        import tensorflow as tf

        image = probe_image(*self.backbone.input.size)[None]
        pixels = tf.constant(image.astype(np.float32) / 255)
        model = frozen_graph.GraphModel(written.graph_def, written.metadata, path=folder)
        with draft_folder(folder) as drafts:
            draft = drafts / folder.name
            saved_model.write_as_the_original(draft, written.graph_def, written.metadata)
            probabilities = tf.saved_model.load(str(draft)).signatures["serving_default"](pixels)["prediction"].numpy()
            _check_parity(str(folder), "probabilities", probabilities, model(image))
            saved_model.put_in_place(draft, folder)
            judging.accept(folder)

    def int8_classifier(self, head: Head, backbone_model: Path) -> TrainedClassifier:
        """Return a head on the 8-bit LiteRT model of its backbone, whose bottlenecks it was trained on."""
        return replace(self._classifier(head), litert=backbone_model)

    def _classifier(self, head: Head) -> TrainedClassifier:
        backbone = self.backbone
        return TrainedClassifier(
            backbone.graph, self.runner.model, backbone.input, backbone.target, head, self.output, self.scope
        )

    def _join(self, head: Head, test_accuracy: float | None = None) -> bytes:
        described = Metadata(
            labels=self.class_names,
            input=self.backbone.input,
            output=self.output,
            architecture=self.backbone.architecture,
            test_accuracy=test_accuracy,
            retrain_version=__version__,
            tensorflow_version=importlib.metadata.version("tensorflow"),
            split=self.split,
        )
        return frozen_graph.join(self._classifier(head), described)

    def _write_litert(self, path: Path, head: Head, written: WrittenGraph) -> None:
        write_result(path, litert_model.join(self._classifier(head), written.metadata, sha256=written.sha256))
        image = probe_image(*self.backbone.input.size)
        trained = head.probabilities(self.runner.runner()(image)[None])
        model = litert_model.load(path, litert_model.describe(path))
        _check_parity(path.name, "probabilities", model(image[None]), trained)

    def _read_back(self, draft: Path, test: LabelledBottlenecks) -> WrittenGraph:
        """Return a written graph as its bytes on the disk say it, with the scores that its own head gives.

        Raises:
            ExportError: Its backbone is not the one that the head was trained on.
        """
        graph_def = read_graph(draft)
        described = frozen_graph.metadata_of(graph_def)
        head = frozen_graph.read_head(graph_def, described)
        sha256 = self._checked_sha256(draft)
        if not is_verified(self.backbone):
            self._verify(draft, frozen_graph.GraphModel(graph_def, described, path=draft), head)
        scores = test.score(head.probabilities, class_count=len(self.class_names))
        return WrittenGraph(graph_def, replace(described, graph_sha256=sha256), sha256, scores)

    def _checked_sha256(self, draft: Path) -> str:
        """Return the SHA-256 of a written graph, whose first bytes are those of the backbone, by their SHA-256."""
        graph = self.backbone.graph
        try:
            data, size, expected = memoryview(draft.read_bytes()), graph.stat().st_size, checksum_of(graph)
        except OSError as error:
            raise ExportError(f"cannot read {error.filename}: {error.strerror}. Run again.") from error
        digest = hashlib.sha256(data[:size])
        if digest.hexdigest() != expected:
            raise ExportError(f"{draft.name} does not begin with the bytes of {graph}. Run again.")
        digest.update(data[size:])
        return digest.hexdigest()

    def _verify(self, draft: Path, model: frozen_graph.GraphModel, head: Head) -> None:
        """Refuse a graph that gives in TensorFlow something else than what its head was trained on, and remember it.

        One image goes through the graph, once for each backbone: later graphs have the same bytes below their heads.
        """
        image = probe_image(*self.backbone.input.size)
        trained_on = self.runner.run_one(image)
        largest = max(1e-6, float(np.abs(trained_on).max()))
        _check_parity(draft.name, "bottlenecks", model.bottlenecks(image[None])[0] / largest, trained_on / largest)
        _check_parity(draft.name, "probabilities", model(image[None]), head.probabilities(trained_on[None]))
        mark_verified(self.backbone)


def _scratch(rows: int, columns: int) -> np.ndarray:
    """Return zeros, float32 [rows, columns]; very many lie in a file that goes with them, and need no memory.

    Raises:
        ExportError: There is no room for them.
    """
    size = 4 * rows * columns
    if size <= _IN_MEMORY:
        return np.zeros((rows, columns), np.float32)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk ends a process that writes to a mapped hole
                os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, np.float32, "w+", shape=(rows, columns)))
    except OSError as error:
        raise ExportError(
            f"cannot write {size / 1e9:.1f} GB to {tempfile.gettempdir()}, for the scores of {rows:,} photos: "
            f"{error.strerror}. Free some space, or name another folder in the environment variable TMPDIR."
        ) from error


def probe_image(height: int, width: int) -> np.ndarray:
    """Return a fixed colourful picture, uint8 [height, width, 3], to compare two forms of one network with."""
    rows, columns, channels = np.ogrid[:height, :width, :3]
    waves = np.sin(rows / (7.0 + channels)) + np.cos(columns / (11.0 - channels)) + np.sin((rows + columns) / 23.0)
    return np.clip(127.5 + waves * 42.5, 0, 255).astype(np.uint8)


def _check_parity(name: str, what: str, in_file: np.ndarray, trained: np.ndarray) -> None:
    # A few thousand rows at a time: of millions of photos, the differences would take as much as the scores.
    starts = range(0, len(trained), _SCORED_AT_ONCE)
    blocks = [(in_file[start : start + _SCORED_AT_ONCE], trained[start : start + _SCORED_AT_ONCE]) for start in starts]
    difference = float(np.max([np.abs(one - other).max(initial=0.0) for one, other in blocks], initial=0.0))
    if not difference <= PARITY:
        raise ExportError(
            f"{name} gives {what} that differ by {difference:.2g} from those of the trained network "
            f"(at most {PARITY:g} is accepted). Delete the folder of its bottlenecks and run again."
        )
