"""Exported models of every format as classifiers: which runtime loads which file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from retrain import run_graph, run_keras, run_litert, run_onnx, run_saved_model
from retrain.metadata import Anatomy, Metadata


class Classifier(Protocol):
    """What every loaded model offers; a call gives probabilities float32 [N, C] for images uint8 [N, H, W, 3]."""

    metadata: Metadata
    class_count: int | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [N, C] for images uint8 [N, H, W, 3].

        Raises:
            GraphError: The model does not take images of that size.
        """

    def for_thread(self) -> "Classifier":
        """Return the same classifier for use in another thread at the same time."""


@dataclass(frozen=True)
class Runtime:
    """What reads one kind of file: `describe` what it tells of itself, `load` it with what is known of it.

    `anatomy` counts what it is made of.
    """

    kind: str
    describe: Callable[[Path], Metadata]
    load: Callable[[Path, Metadata], Classifier]
    anatomy: Callable[[Path], Anatomy]


GRAPH = Runtime("frozen TensorFlow graph", run_graph.describe, run_graph.GraphModel, run_graph.anatomy)
LITERT = Runtime("LiteRT model", run_litert.describe, run_litert.LiteRTModel, run_litert.anatomy)
SAVED_MODEL = Runtime("SavedModel", run_saved_model.describe, run_saved_model.SavedModel, run_saved_model.anatomy)
KERAS = Runtime("Keras model", run_keras.describe, run_keras.KerasModel, run_keras.anatomy)
ONNX = Runtime("ONNX model", run_onnx.describe, run_onnx.OnnxModel, run_onnx.anatomy)


def runtime(path: Path) -> Runtime:
    """Return what reads a model file, by its ending; a folder is a SavedModel, and what has no other ending a graph."""
    if path.is_dir():
        return SAVED_MODEL
    if path.suffix == run_litert.SUFFIX:
        return LITERT
    if path.suffix in run_keras.SUFFIXES:
        return KERAS
    return ONNX if path.suffix == run_onnx.SUFFIX else GRAPH
