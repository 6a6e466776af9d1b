"""The table of model formats, one row each: which file belongs to which, and what writes and reads it.

A row names its module, which is imported when it is asked for: the flags read the names, and need no numpy.
"""

import importlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrain import files, outputs
from retrain.errors import BackboneError, ExportError, GraphError, RetrainError, UsageError, first_line
from retrain.files import beside, check_writable
from retrain.metadata import METADATA_FILE, Metadata
from retrain.outputs import Output
from retrain.trust import judging

if TYPE_CHECKING:
    from retrain.formats.classifier import Classifier, ExportSource, ModelStats


@dataclass(frozen=True)
class Export:
    """One form in which a classifier is exported beside its frozen graph.

    `ending` replaces that of the graph's name. `write` and `check` name functions of the format's module:
    `write(source, path)` writes it; `check(path)` refuses a target before the training, None where a path that can be
    written to is enough. `tolerance` is the largest accepted difference of a probability from the frozen graph's;
    classes closer than that count as tied. None: only accuracy is compared. `decodes` says that the model also decodes
    image files, which is compared too.
    """

    name: str
    ending: str
    write: str
    tolerance: float | None
    check: str | None = None
    decodes: bool = False


@dataclass(frozen=True)
class Format:
    """One kind of model file: the module of `retrain.formats` that reads and writes it, and its file endings.

    `runtime` names what runs it. The module has `describe`, `load` and `stats`, which do and raise what the methods of
    these names do here.
    """

    kind: str
    module: str
    suffixes: tuple[str, ...] = ()
    exports: tuple[Export, ...] = ()
    runtime: str = "tensorflow"

    def describe(self, path: Path) -> Metadata:
        """Return the metadata in a file, or else what its nodes, layers or signatures show.

        Raises:
            GraphError: Not such a file, or refused.
        """
        return self._guarded("describe", path)  # type: ignore[no-any-return]

    def load(self, path: Path, metadata: Metadata) -> "Classifier":
        """Return the classifier in a file; `metadata` come from `describe`, with the user's own values filled in.

        Raises:
            GraphError: It does not run here, or lacks a node that the metadata name.
        """
        return self._guarded("load", path, metadata)  # type: ignore[no-any-return]

    def stats(self, path: Path) -> "ModelStats":
        """Return how many operations or layers of each kind a model has, and how many parameters.

        Raises:
            GraphError: Not such a file, or refused.
        """
        return self._guarded("stats", path)  # type: ignore[no-any-return]

    def function(self, name: str) -> Any:
        """Return a function of the format's module."""
        return getattr(importlib.import_module(f"retrain.formats.{self.module}"), name)

    def _guarded(self, name: str, path: Path, *more: Any) -> Any:
        """Return what a function of the module gives for a file; whatever a damaged one leads to is a GraphError."""
        function = self.function(name)
        try:
            return function(path, *more)
        except RetrainError:
            raise
        except Exception as error:  # the runtimes raise anything on damaged files, from ValueError to RecursionError
            raise GraphError(f"{path} is damaged or no {self.kind} ({first_line(error)[:200]}).") from error


FROZEN_GRAPH = Format("frozen TensorFlow graph", "frozen_graph")
SAVED_MODEL = Format(
    "SavedModel", "saved_model", (), (Export("saved_model", "_saved_model", "write", 2e-3, "check", decodes=True),)
)
_TABLE = (
    FROZEN_GRAPH,
    SAVED_MODEL,
    Format(
        "LiteRT model",
        "litert.model",
        (".tflite",),
        (
            Export("tflite", ".tflite", "check_written", 2e-3),  # written with every graph
            Export("tflite_fp16", "_fp16.tflite", "write_float16", 2e-2),
            Export("tflite_int8", "_int8.tflite", "write_int8", None),
        ),
        "ai_edge_litert.interpreter",
    ),
    Format("Keras model", "keras", (".keras", ".h5"), (Export("keras", ".keras", "write", 2e-3),), "keras"),
    Format("ONNX model", "onnx", (".onnx",), (Export("onnx", ".onnx", "write", 2e-3, "check"),), "onnxruntime"),
)
EXPORTS = {export.name: export for row in _TABLE for export in row.exports}
_FORMAT_OF = {export.name: row for row in _TABLE for export in row.exports}


def format_of(path: Path) -> Format:
    """Return the format of a model file, by its ending; a folder is a SavedModel, any other ending a frozen graph."""
    if path.is_dir():
        return SAVED_MODEL
    return next((row for row in _TABLE if path.suffix in row.suffixes), FROZEN_GRAPH)


def judge_reading(path: Path) -> None:
    """Refuse a model, not known yet, that does harm where it is described and its parts are counted.

    Raises:
        RetrainError: It is refused, or cannot be read.
    """
    trial = judging.Trial(partial(try_reading, path), "read", (format_of(path).runtime,), part=True)
    judging.judge(path, trial)


def try_reading(path: Path) -> bool:
    """Describe a model and count its parts."""
    format_of(path).describe(path)
    format_of(path).stats(path)
    return True


def path_of(graph: Path, name: str) -> Path:
    """Return where an export of a frozen graph lies: beside it, under the same name with another ending."""
    return beside(graph, EXPORTS[name].ending)


def graph_output(path: Path, flag: str) -> Output:
    """Return a frozen graph as an output.

    Raises:
        UsageError: Its ending is that of another format, by which it would be read.
    """
    if any(path.suffix in row.suffixes for row in _TABLE):
        raise UsageError(f"{flag} is {path}, and {path.suffix} files are of another format. Name it {path.stem}.pb.")
    return Output(path, flag, outputs.GRAPH)


def export_outputs(graph: Path, names: Sequence[str]) -> list[Output]:
    """Return the exports of a frozen graph as outputs."""
    paths = {name: path_of(graph, name) for name in names}
    kinds = {name: outputs.OF_ENDING.get(path.suffix) for name, path in paths.items()}
    return [Output(paths[name], f"--export {name}", kind, whole=kind is None) for name, kind in kinds.items()]


def check_owners(graph: Path, flag: str) -> None:
    """Refuse to replace a file beside a graph that belongs to another graph of nearly its name: `x` beside `x.pb`.

    Raises:
        ExportError: Names both.
    """
    endings = [".report.json", *(export.ending for export in EXPORTS.values())]
    for path in (path for ending in endings if (path := beside(graph, ending)).exists()):
        names = [path.name.removesuffix(ending) for ending in endings if path.name.endswith(ending)]
        for owner in (path.with_name(name + suffix) for name in names if name for suffix in (".pb", "")):
            marked = path / METADATA_FILE if path.is_dir() else path
            if owner.name != graph.name and owner.is_file() and _holds(marked, files.sha256_of(owner)):
                raise ExportError(f"{path} belongs to {owner} and would be replaced. Give another {flag}.")


def _holds(file: Path, sha256: str) -> bool:
    try:
        return sha256.encode() in files.read_regular(file, files.MODEL_BYTES)
    except OSError:
        return False


def check_targets(graph: Path, names: Sequence[str]) -> None:
    """Fail now, not after the training, where an export cannot be written.

    Raises:
        ExportError: Says what is missing or in the way.
    """
    for name in names:
        check = EXPORTS[name].check
        (_FORMAT_OF[name].function(check) if check else check_writable)(path_of(graph, name))


def put_in_place(draft: Path, path: Path) -> Path:
    """Return the path of an export, which was run, after giving its draft that path.

    Raises:
        ExportError: It cannot be written.
    """
    if draft.is_dir():
        SAVED_MODEL.function("put_in_place")(draft, path)
    else:
        files.put_in_place([(draft, path)])
    judging.accept(path)
    return path


def stale_exports(graph: Path, metadata: Metadata, names: Collection[str]) -> list[Path]:
    """Return exports beside a frozen graph that are of another training.

    Args:
        graph: The frozen graph.
        metadata: Its metadata, its hash among them.
        names: Exports that are known to be of this one.
    """
    stale = []
    for name, row in _FORMAT_OF.items():
        path = path_of(graph, name)
        if name not in names and path.exists():
            with suppress(RetrainError):  # what is damaged nobody takes for this graph
                judge_reading(path)
                other = row.describe(path)
                if other.graph_sha256 != metadata.graph_sha256 and (
                    other.graph_sha256 or other.labels != metadata.labels
                ):
                    stale.append(path)
    return stale


def write(name: str, source: "ExportSource", graph: Path) -> Path:
    """Return where an export of a classifier was written, beside its frozen graph.

    Raises:
        ExportError: It cannot be written, or the format has no form for this network.
    """
    path = path_of(graph, name)
    try:
        _FORMAT_OF[name].function(EXPORTS[name].write)(source, path)
    except BackboneError as error:
        raise ExportError(f"--export {name}: {error}") from error
    return path
