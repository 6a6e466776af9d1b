"""A store for every test."""

import pytest

from retrain.bottlenecks.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store", dimension=4) as opened:
        yield opened
