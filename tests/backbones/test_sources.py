from retrain.backbones import catalogue, families
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.data import decoding
from retrain.preprocessing import ASPECT_MODES, InputSpec


def test_anything_that_changes_a_bottleneck_changes_the_folder(tmp_path, codelab_data):
    weights = tmp_path / "weights.h5"  # whatever it holds: it is read when the network is built
    weights.write_bytes(b"weights")

    def name(architecture, **options):
        spec = catalogue.find(architecture)
        return families.locate(spec, WeightsRequest(codelab_data / "models", **options)).folder_name

    names = [
        name("mobilenet_bundled"),
        name("mobilenet_0.25_128"),
        name("mobilenet_0.25_128_quantized"),
        name("mobilenet_0.25_224"),
        name("keras:MobileNetV2", weights=str(weights)),
        name("keras:MobileNetV2", weights="random"),
        name("keras:MobileNetV2", weights="random", seed=1),
    ]
    assert len(set(names)) == len(names)
    assert name("mobilenet_bundled") == names[0]


def test_each_way_to_keep_the_aspect_ratio_has_a_folder_and_that_of_before_stays():
    def fingerprint(mode):
        spec = catalogue.select(
            "mobilenet_0.25_128", tfhub_module=None, image_size=None, target=None,
            network_input=InputSpec(keep_aspect_ratio=mode),
        )  # fmt: skip
        return BackboneSource(spec, "weights", "content").fingerprint

    assert fingerprint(None) == "c15c3508a5ee89bc"  # as it lies on users' disks
    assert len({fingerprint(mode) for mode in (None, *ASPECT_MODES)}) == 3


def test_a_copy_of_the_same_weights_shares_the_folder(tmp_path, codelab_data):
    archive = codelab_data / "models" / "mobilenet_v1_0.25_128_frozen.tgz"
    (tmp_path / archive.name).write_bytes(archive.read_bytes())
    spec = catalogue.find("mobilenet_0.25_128")
    here, there = (families.locate(spec, WeightsRequest(folder)) for folder in (codelab_data / "models", tmp_path))
    assert here.folder_name == there.folder_name


def test_a_changed_decoding_changes_the_folder_and_todays_does_not(monkeypatch):
    source = BackboneSource(catalogue.find("mobilenet_0.25_128"), "weights", "content")
    assert source.fingerprint == "c15c3508a5ee89bc"  # as it lies on users' disks
    monkeypatch.setattr(decoding, "RESIZE_RECIPE", "another")
    assert source.fingerprint != "c15c3508a5ee89bc"
