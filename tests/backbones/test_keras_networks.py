from pathlib import Path

import numpy as np
import pytest
from backbone_checks import assert_works, in_tensorflow, loaded
from builders import small_keras

from retrain import (
    export,
)
from retrain.errors import BackboneError


def test_the_bundled_backbone_equals_the_keras_model_with_its_weights(tmp_path):
    from importlib.resources import files

    from retrain.backbones import keras_networks

    model = keras_networks.bundled(
        Path(str(files("retrain") / "backbones" / "weights" / "mobilenet_bundled.npz")), height=128, width=128
    )
    picture = export.probe_image(128, 128)
    expected = model((picture[None].astype(np.float32) - 127.5) / 127.5, training=False).numpy()
    assert in_tensorflow(loaded("mobilenet_bundled", tmp_path))[:1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_second_network_of_a_process_gives_the_same_graph(tmp_path):
    graphs = [loaded("mobilenet_bundled", tmp_path / name, height=32, width=32).graph for name in ("one", "two")]
    assert graphs[0].read_bytes() == graphs[1].read_bytes()


def test_a_layer_of_a_keras_network_can_be_the_bottleneck(tmp_path):
    assert in_tensorflow(loaded("mobilenet_bundled", tmp_path, target="conv_pw_5_relu")).shape == (2, 128)


@pytest.mark.slow
def test_real_keras_weights_are_loaded_and_their_width_is_found(data, tmp_path):
    weights = next((data / "models").glob("mobilenet_v2*.h5"))
    found = loaded("keras:MobileNetV2", tmp_path, weights=str(weights))
    vectors = assert_works(found, tmp_path, size=224, dimension=1280)
    import keras

    model = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, pooling="avg", weights=str(weights)
    )
    picture = export.probe_image(224, 224)[None].astype(np.float32) / 127.5 - 1
    assert vectors[:1] == pytest.approx(model(picture, training=False).numpy(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dimension"),
    [("VGG19", 64, 512), ("InceptionV3", 96, 2048), ("MobileNetV3Small", 224, 576), ("EfficientNetV2B0", 64, 1280)],
)
def test_keras_names_work_with_random_weights(tmp_path, name, size, dimension):
    found = loaded(f"keras:{name}", tmp_path, weights="random", height=size, width=size)
    assert_works(found, tmp_path, size=size, dimension=dimension)


@pytest.mark.slow
def test_preprocessing_of_keras_is_inside_the_graph(tmp_path):
    import keras

    found = loaded("keras:VGG16", tmp_path, weights="random", height=32, width=32)
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(input_shape=(32, 32, 3), include_top=False, pooling="avg", weights=None)
    pixels = export.probe_image(32, 32)[None].astype(np.float32)
    expected = model(keras.applications.vgg16.preprocess_input(pixels.copy())).numpy()
    assert in_tensorflow(found)[:1] == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_random_weights_follow_the_seed(tmp_path):
    options = {"weights": "random", "height": 32, "width": 32}
    one, same, other = (
        in_tensorflow(loaded("keras:MobileNet", tmp_path / str(i), seed=seed, **options))
        for i, seed in enumerate((1, 1, 2))
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_keras_file_is_cut_before_its_classifier(tmp_path):
    small_keras(rescaling=True).save(tmp_path / "model.keras")
    found = loaded(str(tmp_path / "model.keras"), tmp_path)
    assert (found.input.mean, found.input.std) == (0.0, 1.0)
    assert_works(found, tmp_path, size=20, dimension=6)


def test_a_keras_file_that_does_not_tell_its_range_asks_for_it(tmp_path):
    small_keras(rescaling=False, top=False).save(tmp_path / "model.keras")
    with pytest.raises(BackboneError, match="--input_mean and --input_std"):
        loaded(str(tmp_path / "model.keras"), tmp_path)
    assert_works(loaded(str(tmp_path / "model.keras"), tmp_path, mean=0.0, std=255.0), tmp_path, size=20, dimension=6)


def test_a_keras_file_with_code_inside_is_refused(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(BackboneError, match="cannot load"):
        loaded(str(tmp_path / "model.keras"), tmp_path)


@pytest.mark.parametrize(
    ("architecture", "options", "words"),
    [
        ("keras:MobileNetV2", {"weights": "nowhere.h5"}, "cannot read the weights nowhere.h5"),
        ("mobilenet_0.25_128", {"weights": "x.h5"}, "--weights goes with"),
        ("keras:VGG19", {"weights": "random", "height": 8, "width": 8}, "refuses 8 x 8"),
        ("mobilenet_bundled", {"height": 8, "width": 8}, "refuses 8 x 8"),
        ("mobilenet_bundled", {"weights": __file__}, "does not hold the weights of a MobileNet"),
        ("mobilenet_bundled", {"target": "conv_pw_13_rely"}, "no layer 'conv_pw_13_rely'.*conv_pw_13_relu"),
        ("mobilenet_bundled", {"node": "input"}, "--input_layer goes with frozen graphs"),
    ],
)
def test_weights_that_make_no_sense_are_one_clear_error(tmp_path, architecture, options, words):
    with pytest.raises(BackboneError, match=words):
        loaded(architecture, tmp_path, **options)


def test_weights_of_another_network_are_one_clear_error(tmp_path, data):
    weights = next((data / "models").glob("*.h5"))
    with pytest.raises(BackboneError, match="do not fit keras:VGG19"):
        loaded("keras:VGG19", tmp_path, weights=str(weights), height=32, width=32)


def test_official_weights_without_network_name_the_url_and_the_way_out(tmp_path):
    with pytest.raises(BackboneError) as error:
        loaded("keras:MobileNet", tmp_path, height=128, width=128)
    message = str(error.value)
    assert all(word in message for word in ("https://", "mobilenet_1_0_128", "~/.keras/models", "efficientnet_lite0"))
