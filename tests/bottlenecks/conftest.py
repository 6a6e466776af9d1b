"""A store for every test, and a network that needs no weights."""

from dataclasses import replace

import pytest

from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", dimension=4) as opened:
        yield opened


@pytest.fixture
def source(mean_colour_backbone, tmp_path):
    """Where the network of mean colours is."""
    spec = replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour")
    return families.locate(spec, WeightsRequest(tmp_path))
