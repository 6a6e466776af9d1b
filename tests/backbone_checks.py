"""Loads backbones for the tests, and checks that each form of one gives the same."""

import numpy as np
import pytest

from retrain import (
    export,
)
from retrain.backbones import catalogue, loading, runner, sources
from retrain.backbones.catalogue import BackboneSpec
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.graphs import reading


def loaded(architecture, folder, **options):
    spec = architecture if isinstance(architecture, BackboneSpec) else catalogue.find(architecture)
    overrides = {k: options.pop(k) for k in list(options) if k not in ("model_dir", "weights", "seed")}
    from dataclasses import replace

    recipe = sources.locate(replace(spec, **overrides), model_dir=options.pop("model_dir", folder), **options)
    return loading.load_backbone(recipe, folder / recipe.folder_name)


def in_tensorflow(found):
    run = runner.TensorFlowRunner(found.graph, source=found.source, target=found.target, mean=found.mean, std=found.std)
    picture = export.probe_image(found.height, found.width)
    return run(np.stack([picture, picture[::-1]]))


def in_litert(found, folder):
    model = folder / "model.tflite"
    model.write_bytes(conversion.to_float32(found.graph, source=found.source, target=found.target))
    run = litert_model.Runner(model, mean=found.mean, std=found.std)
    picture = export.probe_image(found.height, found.width)
    return np.stack([run(picture), run(picture[::-1])])


def assert_works(found, folder, *, size, dimension):
    """Both engines agree, images differ, and the description is right."""
    assert (found.height, found.width, found.dimension) == (size, size, dimension)
    vectors = in_tensorflow(found)
    assert vectors.shape == (2, dimension)
    assert np.isfinite(vectors).all()
    assert not np.array_equal(vectors[0], vectors[1])
    scale = max(float(np.abs(vectors).max()), 1e-6)
    assert in_litert(found, folder) == pytest.approx(vectors, abs=2e-3 * scale)
    reading.check_pure(reading.read_graph(found.graph), name="its frozen graph")
    return vectors
