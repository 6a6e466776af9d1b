import itertools

import pytest
from builders import exported, with_litert
from conftest import photo

from retrain.inference import loading
from retrain.inference.parts import shards


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """23 pictures in two folders, one of them damaged, which make 5 shards; other files beside them."""
    monkeypatch.setattr(shards, "PHOTOS", 5)
    monkeypatch.chdir(tmp_path)
    for folder, number in itertools.product("ab", range(11)):
        photo(tmp_path / "photos" / folder / f"{number:02}.png", (number * 20, 99, ord(folder)), seed=number)
    (tmp_path / "photos" / "a" / "bad.jpg").write_bytes(b"no")
    (tmp_path / "photos" / "a" / "notes.txt").write_bytes(b"no")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"no")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def model(mean_colour_backbone, tmp_path_factory):
    graph = exported(mean_colour_backbone, tmp_path_factory.mktemp("model") / "g.pb")
    return loading.load(with_litert(graph, mean_colour_backbone))
