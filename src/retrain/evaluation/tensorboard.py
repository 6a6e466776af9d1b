"""Writes for TensorBoard: the original's scalars, histograms and graph, in the runs `train` and `validation`."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from retrain.errors import ExportError
from retrain.evaluation import board_values
from retrain.files import lock, unique_name
from retrain.graphs.nodes import GraphDef, copy_of, needed_nodes, node_name
from retrain.head import Head, softmax
from retrain.history import ChunkResult, Evaluation, curves

TRAIN, VALIDATION = "train", "validation"
SUFFIX = ".retrain"  # marks event files of ours: only those are replaced
_BUCKETS = 30
_LARGEST = float(np.finfo(np.float32).max)


class Summaries:
    """The event files of one training; a context manager.

    TensorBoard's plain record writer is used, on files that are opened here: its `EventFileWriter` imports TensorFlow.
    The points of curves are written many at once, for it computes checksums byte by byte in Python.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runs: Sequence[str] = (TRAIN, VALIDATION),
        head_every: int = 1,
        scope: str = "final_training_ops",
        part: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Replace the event files that an earlier run of retrain left in `folder`, without `part`; others stay.

        `shared` says afterwards whether another run is writing to it, whose files stay too; `paths` has the file of
        each run.

        Args:
            folder: Gets a folder for each run.
            runs: Folders below it, one for each curve of a chart; the first shows graph and images.
            head_every: Steps from one summary of the head to the next.
            scope: First part of the head's names.
            part: Suffix of event files that are kept apart from those of a training.
            clock: Seconds since 1970.

        Raises:
            ExportError: The folder cannot be written.
        """
        self._clock, self._head_every, self._next_head, self._scope = clock, head_every, 0, scope
        self._folder, self._first, self.shared = folder, runs[0], False
        self._files: dict[str, BinaryIO] = {}
        self._described: set[tuple[str, str]] = set()
        self._opened = ExitStack()
        self.paths: dict[str, Path] = {}
        try:
            for run in runs:
                self._open(run, part)
        except OSError as error:
            self._opened.close()
            raise cannot_write(folder, error) from error
        for run in runs:
            self._write(run, 0, file_version="brain.Event:2")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._opened.close()
        except OSError as failed:
            raise cannot_write(self._folder, failed) from failed

    def _open(self, run: str, part: str) -> None:
        """Open the event file of a run in the place of those that earlier ones left."""
        folder = self._folder / run
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*{part}{SUFFIX}"):
            self._remove(old)
        path = folder / f"events.out.tfevents.{int(self._clock())}.{unique_name()}{part}{SUFFIX}"
        path.touch()
        lock(path, self._opened)
        self.paths[run] = path
        self._files[run] = self._opened.enter_context(path.open("wb"))

    def _remove(self, old: Path) -> None:
        """Remove an event file, unless the run that writes it holds it."""
        with ExitStack() as opened:
            if lock(old, opened, wait=False):
                old.unlink(missing_ok=True)
            else:
                self.shared = True

    def graph(self, graph_def: bytes) -> None:
        """Show a serialised GraphDef on the graph page."""
        self._write(self._first, 0, graph_def=graph_def)

    def add(self, summary: Any) -> None:
        """Add a Summary that a plugin of TensorBoard made."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(self._first, 0, summary=Summary.FromString(summary.SerializeToString()))

    def add_values(self, values: Sequence[Any]) -> None:
        """Add values of `board_values` to the first run."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            self._write(self._first, 0, summary=Summary(value=values))

    def scalars(self, run: str, steps: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
        """Add curves, float [S] by their names, at steps int64 [S] of a run; tags are the original's, `name`_1."""
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=self._clock())
        values = [event.summary.value.add(tag=f"{name}_1") for name in series]
        points: list[bytes] = []
        # One event, written again and again: making one costs more than filling it in.
        for step, *row in zip(steps.tolist(), *(curve.tolist() for curve in series.values()), strict=True):
            event.step = step
            for value, figure in zip(values, row, strict=True):
                value.simple_value = figure
            if not points:
                self._describe(run, values)
            points.append(event.SerializeToString())
            if len(points) == 1:  # the first point of a curve describes it
                for value in values:
                    value.ClearField("metadata")
        try:
            self._files[run].write(as_records(points))
            self._files[run].flush()
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def head(self, step: int, head: Head, batch: np.ndarray) -> None:
        """Add the original's histograms of the last layer, if `head_every` steps have passed since the last ones.

        Args:
            step: The last step that trained the head.
            head: Its last layer's weights and biases are shown.
            batch: Bottlenecks float32 [B, D], whose logits and probabilities are shown.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        if step < self._next_head:
            return
        values = []
        for name, array in (("weights", head.last.weights), ("biases", head.last.biases)):
            scope = f"{self._scope}/{name}/summaries"
            wide = array.astype(np.float64)
            measures = {"mean": wide.mean(), "stddev": wide.std(), "max": wide.max(), "min": wide.min()}
            values += [Summary.Value(tag=f"{scope}/{m}_1", simple_value=float(v)) for m, v in measures.items()]
            values.append(Summary.Value(tag=f"{scope}/histogram", histo=_histogram(array)))
        with np.errstate(all="ignore"):
            logits = head.logits(batch)
            activations = softmax(logits)
        values.append(Summary.Value(tag=f"{self._scope}/Wx_plus_b/pre_activations", histo=_histogram(logits)))
        values.append(Summary.Value(tag="activations", histo=_histogram(activations)))
        self._next_head = step + self._head_every
        self._describe(self._first, values)
        self._write(self._first, step, summary=Summary(value=values))

    def _describe(self, run: str, values: Sequence[Any]) -> None:
        """Say what is known of tags, in their first values in a run."""
        for value in values:
            if (run, value.tag) not in self._described:
                self._described.add((run, value.tag))
                board_values.describe(value)

    def _write(self, run: str, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(wall_time=self._clock(), step=step, **content)
        try:
            RecordWriter(self._files[run]).write(event.SerializeToString())
        except OSError as error:
            raise cannot_write(self._folder, error) from error


def as_records(contents: Sequence[bytes]) -> bytes:
    """Return what TensorBoard's RecordWriter writes for contents of a byte or more, at a fifth of its cost."""
    parts = []
    for length, group in itertools.groupby(contents, len):
        rows = np.frombuffer(b"".join(group), np.uint8).reshape(-1, length)
        header = np.frombuffer(length.to_bytes(8, "little"), np.uint8)[None]
        columns = [header, _checksums(header), rows, _checksums(rows)]
        parts.append(np.hstack([np.broadcast_to(each, (len(rows), each.shape[1])) for each in columns]).tobytes())
    return b"".join(parts)


def _checksums(rows: np.ndarray) -> np.ndarray:
    """Return the masked CRC-32C of each row, uint8 [n, length], as uint8 [n, 4]."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import CRC_TABLE

    table, crc = np.array(CRC_TABLE, np.uint32), np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    masked = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    return masked.astype("<u4").view(np.uint8).reshape(-1, 4)


def cannot_write(folder: Path, error: OSError) -> ExportError:
    """Return the error for summaries that cannot be written."""
    return ExportError(f"cannot write summaries to {folder}: {error.strerror}. Give another --summaries_dir.")


def _histogram(values: np.ndarray) -> Any:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    # Just before a training diverges, values leave the range of float32.
    flat = np.nan_to_num(values.astype(np.float64).ravel(), posinf=_LARGEST, neginf=-_LARGEST)
    counts, edges = np.histogram(flat, bins=_BUCKETS)
    totals = {"num": flat.size, "sum": flat.sum(), "sum_squares": flat @ flat}
    return HistogramProto(min=flat.min(), max=flat.max(), bucket_limit=edges[1:], bucket=counts, **totals)


_SMALL_BYTES = 1024


def sketch(graph_def: GraphDef, *, scope: str) -> GraphDef:
    """Return a graph for the graph page: large constants emptied, the backbone's nodes in one scope.

    Args:
        graph_def: A graph that retrain exported; it is not changed.
        scope: Names the scope, for a backbone whose nodes have none in common.
    """
    sketched = copy_of(graph_def)
    for node in sketched.node:
        if node.op == "Const" and node.attr["value"].ByteSize() > _SMALL_BYTES:
            del node.attr["value"]
    bottlenecks = [n for n in sketched.node if n.name.endswith("BottleneckInputPlaceholder") and n.input]
    inside = {n.name for n in needed_nodes(sketched, [n.input[0] for n in bottlenecks]) if n.op != "Placeholder"}
    inside = {name for name in inside if name.partition("/")[0] not in {node_name(n.input[0]) for n in bottlenecks}}
    if len({name.partition("/")[0] for name in inside}) > 1:
        prefix = "".join(c if c.isalnum() else "_" for c in scope)
        for node in sketched.node:
            node.input[:] = [f"{prefix}/{name}" if node_name(name) in inside else name for name in node.input]
            if node.name in inside:
                node.name = f"{prefix}/{node.name}"
    return sketched


def summarise(summaries: Summaries, result: ChunkResult) -> None:
    """Show the curves and the head of a chunk of steps on TensorBoard."""
    summaries.scalars(TRAIN, result.steps, result.series)
    summarise_evaluations(summaries, VALIDATION, result.evaluations)
    summaries.head(int(result.steps[-1]), result.head, result.batch)


def summarise_evaluations(summaries: Summaries, run: str, rows: Sequence[Evaluation]) -> None:
    """Show the curves of a run's evaluations on TensorBoard; those without images are left out."""
    series = curves(rows, run)
    if not np.isnan(series["accuracy"]).all():
        summaries.scalars(run, np.array([row.step for row in rows]), series)
