"""Writes a classifier as a LiteRT model that phones, boards and their libraries read without a word from its maker."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from retrain import conversion, litert, tflite_metadata
from retrain.head import Head
from retrain.metadata import METADATA_NOTE, Metadata


def float32(graph: Path, *, backbone: Path, head: Head, told: Metadata) -> bytes:
    """Return a model in float32: a converted backbone and the head.

    Args:
        graph: The frozen graph of the same classifier, which the model names by its SHA-256, so that it is never
            taken for another's.
        backbone: The backbone as a LiteRT model.
        head: Takes the bottlenecks.
        told: What the graph says of itself.
    """
    return _described(litert.with_head(backbone.read_bytes(), head, output=told.output or ""), graph, told)


def float16(graph: Path, *, told: Metadata) -> bytes:
    """Return a model whose weights are kept as float16, half the bytes; it computes in float32.

    Raises:
        BackboneError: The graph has an operation that LiteRT has not.
    """
    model = conversion.with_float16_weights(graph, source=told.input or "", target=told.output or "")
    return _described(model, graph, replace(told, test_accuracy=None))  # which is the graph's


def int8(graph: Path, *, told: Metadata, pictures: Sequence[np.ndarray]) -> bytes:
    """Return a model in 8-bit arithmetic that takes pixels as they are, uint8, and gives uint8 scores.

    Args:
        graph: A frozen graph file.
        told: What it says of itself.
        pictures: uint8 [H, W, 3] each, from the training images.

    Raises:
        BackboneError: As for `float16`.
    """
    ends = {"source": told.input or "", "target": told.output or ""}
    model = conversion.in_8_bits(graph, told=told, pictures=pictures, **ends)
    return _described(model, graph, replace(told, test_accuracy=None))  # as above


def _described(model: bytes, graph: Path, told: Metadata) -> bytes:
    """Return a model with what it is inside: retrain's own note, and the standard metadata with the labels."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)
        ends = litert.ends(file)
    own = replace(told, input=ends.input, output=ends.output, bottleneck=None)
    own = replace(own, graph_sha256=hashlib.sha256(graph.read_bytes()).hexdigest())
    if ends.scale:  # (pixel - zero_point) * scale goes in: what is quantised of it is the pixel itself
        own = replace(own, mean=float(ends.zero_point), std=1 / ends.scale)
    standard = tflite_metadata.Described(
        name=f"retrain, {told.architecture}",
        output=told.output or "",
        mean=told.mean or 0.0,
        std=told.std or 1.0,
        whole_numbers=bool(ends.scale),
    )
    notes = {METADATA_NOTE: own.to_json().encode(), tflite_metadata.NOTE: tflite_metadata.packed(standard)}
    return tflite_metadata.with_labels(litert.with_notes(model, notes), told.labels)
