"""Loads backbones for the tests, and checks that each form of one gives the same."""

from dataclasses import replace

import numpy as np
import pytest

from retrain import export
from retrain.backbones import catalogue, families, loading, runner
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.sources import WeightsRequest
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.graphs import reading


def loaded(architecture, folder, **options):
    spec = architecture if isinstance(architecture, BackboneSpec) else catalogue.find(architecture)
    request = WeightsRequest(options.pop("model_dir", folder), options.pop("weights", None), options.pop("seed", 0))
    target = options.pop("target", spec.target)
    spec = replace(spec, input=replace(spec.input, **options), target=target)
    source = families.locate(spec, request)
    return loading.load_backbone(source, folder / source.folder_name)


def in_tensorflow(found):
    run = runner.TensorFlowRunner(found)
    picture = export.probe_image(*found.input.size)
    return run(np.stack([picture, picture[::-1]]))


def in_litert(found, folder):
    model = folder / "model.tflite"
    graph_def = reading.read_graph(found.graph)
    model.write_bytes(conversion.to_float32(graph_def, found.input, target=found.target))
    run = litert_model.Runner(model, found.input)
    picture = export.probe_image(*found.input.size)
    return np.stack([run(picture), run(picture[::-1])])


def cosines(ours, theirs):
    """Return how alike the vectors of each image are, 1 at most: float [N]."""
    return (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def assert_works(found, folder, *, size, dimension):
    """Both engines agree, images differ, and the description is right."""
    assert (*found.input.size, found.dimension) == (size, size, dimension)
    vectors = in_tensorflow(found)
    assert vectors.shape == (2, dimension)
    assert np.isfinite(vectors).all()
    assert not np.array_equal(vectors[0], vectors[1])
    scale = max(float(np.abs(vectors).max()), 1e-6)
    assert in_litert(found, folder) == pytest.approx(vectors, abs=2e-3 * scale)
    reading.check_pure(reading.read_graph(found.graph), name="its frozen graph")
    return vectors
