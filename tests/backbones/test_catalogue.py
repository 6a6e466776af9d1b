import inspect

import pytest

from retrain.backbones import catalogue
from retrain.backbones.catalogue import Kind, find
from retrain.errors import BackboneError


def test_the_codelabs_names_are_all_there():
    for width in ("1.0", "0.75", "0.50", "0.25"):
        for size in ("224", "192", "160", "128"):
            for suffix in ("", "_quantized"):
                row = find(f"mobilenet_{width}_{size}{suffix}")
                assert row.kind is Kind.ARCHIVE
                assert row.input.size == (int(size), int(size))
                assert row.url.endswith(f"/mobilenet_v1_{width}_{size}_frozen.tgz")
                assert row.member == ("quantized_graph.pb" if suffix else "frozen_graph.pb")
    assert find("inception_v3").url.endswith("inception-2015-12-05.tgz")


def test_every_classifier_of_keras_has_a_row_with_its_own_preprocessing():
    import keras

    applications = keras.applications
    builders = {name for name, value in vars(applications).items() if inspect.isfunction(value)}
    assert builders == set(catalogue.KERAS_APPLICATIONS)
    for name, row in catalogue.KERAS_APPLICATIONS.items():
        module = inspect.getmodule(getattr(applications, name))
        source = inspect.getsource(module.preprocess_input)
        modes = [mode for mode in ("tf", "caffe", "torch") if f'mode="{mode}"' in source]
        assert row.preprocessing == (modes[0] if modes else "none"), name


def test_names_are_read_in_any_case():
    assert find("KERAS:mobilenetv2") == find("keras:MobileNetV2")
    assert find("MobileNet_0.25_128") == find("mobilenet_0.25_128")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mobilnet_0.25_128", "mobilenet_0.25_128"),
        ("keras:mobilenet_v2", "keras:MobileNetV2"),
        ("inception", "inception_v3"),
        ("mobilenet_v2", r"Did you mean: keras:MobileNetV2\?"),
        ("resnet-50", r"Did you mean: keras:ResNet50, keras:ResNet50V2\?"),
        ("EfficientNet_B0", r"Did you mean: keras:EfficientNetB0\?"),
        ("mobilenetv3", "keras:MobileNetV3"),
        ("mobilenet_v1_0.25_128", "mobilenet_0.25_128"),
        ("zzz", "efficientnet_lite0"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(typed, offered):
    with pytest.raises(BackboneError, match=offered):
        find(typed)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(BackboneError, match="no such file"):
        find(str(tmp_path / "model.pb"))


def test_kinds_are_told_apart():
    assert catalogue.find("inception_v3").kind is Kind.ARCHIVE
    assert catalogue.from_hub("x").kind is Kind.HUB
