"""The table of model formats: one row each, and which row a file belongs to."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import files
from retrain.errors import BackboneError, ExportError
from retrain.formats import frozen_graph, saved_model
from retrain.formats import keras as keras_format
from retrain.formats import onnx as onnx_format
from retrain.formats.classifier import Classifier, ModelStats
from retrain.formats.litert import model as litert_model
from retrain.graphs import nodes, reading
from retrain.metadata import Metadata


@dataclass(frozen=True)
class Format:
    """One format.

    `ending` follows the name of the frozen graph without its own. `tolerance` is how far a probability may be from
    the frozen graph's, so that images whose best classes are no further apart may be given either, None where the
    accuracy alone counts.
    """

    ending: str
    tolerance: float | None


FORMATS = {
    "saved_model": Format("_saved_model", 2e-3),
    "tflite": Format(".tflite", 2e-3),
    "tflite_fp16": Format("_fp16.tflite", 2e-2),
    "tflite_int8": Format("_int8.tflite", None),
    "keras": Format(".keras", 2e-3),
    "onnx": Format(".onnx", 2e-3),
}
Pictures = Callable[[], Sequence[np.ndarray]]


@dataclass(frozen=True)
class ExportSource:
    """A classifier that was written as a frozen graph; `pictures` gives training images, uint8 [H, W, 3] each."""

    graph: Path
    pictures: Pictures

    @functools.cached_property
    def told(self) -> Metadata:
        """Return what the graph says of itself."""
        return frozen_graph.describe(self.graph)

    @functools.cached_property
    def graph_def(self) -> nodes.GraphDef:
        """Return the graph."""
        return reading.read_graph(self.graph)


def path_of(graph: Path, name: str) -> Path:
    """Return where a format of a frozen graph lies: beside it, under the same name with another ending."""
    return graph.with_name(graph.stem + FORMATS[name].ending)


def check_targets(graph: Path, names: Sequence[str]) -> None:
    """Fail now, not after the training, where a format cannot be written.

    Raises:
        ExportError: Says what is missing or in the way.
    """
    for name in names:
        path = path_of(graph, name)
        if name == "saved_model":
            saved_model.check(path)
        else:
            files.check_writable(path)
        if name == "onnx":
            onnx_format.check_installed()


def write(name: str, found: ExportSource) -> Path:
    """Return where a format of a classifier was written.

    Raises:
        ExportError: It cannot be written, or the format has no form for this network.
    """
    path, told = path_of(found.graph, name), found.told
    try:
        if name == "saved_model":
            saved_model.write(path, found.graph_def, told)
        elif name == "tflite_fp16":
            files.write_result(path, litert_model.float16(found.graph, told=told))
        elif name == "tflite_int8":
            files.write_result(path, litert_model.int8(found.graph, told=told, pictures=found.pictures()))
        elif name == "keras":
            files.write_result(path, keras_format.to_keras(found.graph_def, told))
        elif name == "onnx":
            files.write_result(path, onnx_format.to_onnx(found.graph_def, told))
        elif not litert_model.is_form_of(path, found.graph):  # tflite: written with every graph that it can be made of
            raise ExportError("LiteRT has no form for this network. Leave tflite out of --export.")
    except BackboneError as error:
        raise ExportError(f"--export {name}: {error}") from error
    return path


@dataclass(frozen=True)
class Runtime:
    """What reads one kind of file: `describe` what it tells of itself, `load` it with what is known of it.

    `anatomy` counts what it is made of.
    """

    kind: str
    describe: Callable[[Path], Metadata]
    load: Callable[[Path, Metadata], Classifier]
    anatomy: Callable[[Path], ModelStats]


GRAPH = Runtime("frozen TensorFlow graph", frozen_graph.describe, frozen_graph.GraphModel, frozen_graph.stats)
LITERT = Runtime("LiteRT model", litert_model.describe, litert_model.LiteRTModel, litert_model.stats)
SAVED_MODEL = Runtime("SavedModel", saved_model.describe, saved_model.SavedModel, saved_model.stats)
KERAS = Runtime("Keras model", keras_format.describe, keras_format.KerasModel, keras_format.stats)
ONNX = Runtime("ONNX model", onnx_format.describe, onnx_format.OnnxModel, onnx_format.stats)


def runtime(path: Path) -> Runtime:
    """Return what reads a model file, by its ending; a folder is a SavedModel, and what has no other ending a graph."""
    if path.is_dir():
        return SAVED_MODEL
    if path.suffix == litert_model.SUFFIX:
        return LITERT
    if path.suffix in keras_format.SUFFIXES:
        return KERAS
    return ONNX if path.suffix == onnx_format.SUFFIX else GRAPH


def litert_path(graph: Path) -> Path:
    """Return where the LiteRT form of a frozen graph lies: beside it, under the same name."""
    return graph.with_suffix(".tflite")
