"""The formats that a classifier is exported in beside its frozen graph: which there are, and how each is written."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import export, export_keras, export_litert, export_onnx, export_saved_model, graphs, run_graph, run_litert
from retrain.errors import BackboneError, ExportError
from retrain.exportable import FORMATS
from retrain.metadata import Metadata

Pictures = Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Classified:
    """A classifier that was written as a frozen graph; `pictures` gives training images, uint8 [H, W, 3] each."""

    graph: Path
    pictures: Pictures

    @functools.cached_property
    def told(self) -> Metadata:
        """Return what the graph says of itself."""
        return run_graph.describe(self.graph)

    @functools.cached_property
    def graph_def(self) -> graphs.GraphDef:
        """Return the graph."""
        return graphs.read(self.graph)


def path_of(graph: Path, name: str) -> Path:
    """Return where a format of a frozen graph lies: beside it, under the same name with another ending."""
    return graph.with_name(graph.stem + FORMATS[name].ending)


def check(graph: Path, names: Sequence[str]) -> None:
    """Fail now, not after the training, where a format cannot be written.

    Raises:
        ExportError: Says what is missing or in the way.
    """
    for name in names:
        path = path_of(graph, name)
        if name == "saved_model":
            export_saved_model.check(path)
        else:
            export.check_writable(path)
        if name == "onnx":
            export_onnx.check_installed()


def write(name: str, found: Classified) -> Path:
    """Return where a format of a classifier was written.

    Raises:
        ExportError: It cannot be written, or the format has no form for this network.
    """
    path, told = path_of(found.graph, name), found.told
    try:
        if name == "saved_model":
            export_saved_model.write(path, found.graph_def, told)
        elif name == "tflite_fp16":
            export.write(path, export_litert.float16(found.graph, told=told))
        elif name == "tflite_int8":
            export.write(path, export_litert.int8(found.graph, told=told, pictures=found.pictures()))
        elif name == "keras":
            export.write(path, export_keras.written(found.graph_def, told))
        elif name == "onnx":
            export.write(path, export_onnx.converted(found.graph_def, told))
        elif not run_litert.is_form_of(path, found.graph):  # tflite: written with every graph that it can be made of
            raise ExportError("LiteRT has no form for this network. Leave tflite out of --export.")
    except BackboneError as error:
        raise ExportError(f"--export {name}: {error}") from error
    return path
