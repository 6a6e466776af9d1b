import pytest
from builders import small_keras, write_tf1_hub_module

from retrain.backbones import catalogue, families, strangers
from retrain.backbones.sources import WeightsRequest
from retrain.errors import GraphError
from retrain.preprocessing import InputSpec
from retrain.trust import judging


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """Nothing is known, and models are not trusted."""
    monkeypatch.delenv(judging.TRUST, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def located(tmp_path):
    def locate(path, target=None, weights=None):
        row = catalogue.select(
            str(path),
            tfhub_module=None,
            image_size=None,
            network_input=InputSpec(None, 16, 16, 0.0, 255.0),
            target=target,
        )
        return families.locate(row, WeightsRequest(tmp_path, weights))

    return locate


@pytest.mark.slow
def test_backbones_are_tried_once_before_they_are_frozen(tmp_path, mean_colour_backbone, located, monkeypatch):
    graph = located(mean_colour_backbone, "mean_colour")
    strangers.judge(graph)
    with pytest.raises(GraphError, match="is refused: its node 'evil' writes files"):
        strangers.judge(located(write_tf1_hub_module(tmp_path / "hub", 16, initialiser=str(tmp_path / "written"))))
    monkeypatch.setattr("sys.executable", "")
    strangers.judge(graph)
    with pytest.raises(GraphError, match="cannot be tried"):
        strangers.judge(located(mean_colour_backbone, "other"))


def test_weights_of_the_users_are_tried_and_ours_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "")
    small_keras(rescaling=True).save(tmp_path / "m.weights.h5")
    own = families.locate(catalogue.find("mobilenet_bundled"), WeightsRequest(tmp_path))
    strangers.judge(own)
    for name in ("mobilenet_bundled", "keras:MobileNetV2"):
        with pytest.raises(GraphError, match=r"m\.weights\.h5 cannot be tried"):
            strangers.judge(
                families.locate(catalogue.find(name), WeightsRequest(tmp_path, str(tmp_path / "m.weights.h5")))
            )
