from pathlib import Path

import numpy as np
import pytest
from builders import colour_module

from retrain import (
    export,
)
from retrain.backbones import catalogue, loading, runner, sources
from retrain.backbones.catalogue import BackboneSpec, Kind
from retrain.errors import BackboneError, DownloadError, GraphError
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


def test_the_bundled_backbone_needs_nothing(tmp_path):
    found = loaded("mobilenet_bundled", tmp_path)
    vectors = assert_works(found, tmp_path, size=128, dimension=512)
    assert 0.01 < vectors.mean() < 1  # trained features, not the silence of random ones


def test_the_bundled_backbone_equals_the_keras_model_with_its_weights(tmp_path):
    from importlib.resources import files

    from retrain.backbones import keras_networks

    model = keras_networks.bundled(
        Path(str(files("retrain") / "backbones" / "weights" / "mobilenet_bundled.npz")), height=128, width=128
    )
    picture = export.probe_image(128, 128)
    expected = model((picture[None].astype(np.float32) - 127.5) / 127.5, training=False).numpy()
    assert in_tensorflow(loaded("mobilenet_bundled", tmp_path))[:1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("name", "size"), [("mobilenet_0.25_128", 128), ("mobilenet_0.25_224", 224)])
def test_the_official_archives_work(data, tmp_path, name, size):
    float_vectors = assert_works(loaded(name, tmp_path, model_dir=data / "models"), tmp_path, size=size, dimension=256)
    quantized = loaded(f"{name}_quantized", tmp_path, model_dir=data / "models")
    vectors = assert_works(quantized, tmp_path, size=size, dimension=256)
    assert np.corrcoef(vectors.ravel(), float_vectors.ravel())[0, 1] > 0.9


def test_another_tensor_can_be_the_bottleneck(data, tmp_path):
    found = loaded("mobilenet_0.25_128", tmp_path, model_dir=data / "models", target="MobilenetV1/Predictions/Reshape")
    assert in_tensorflow(found).shape == (2, 1001)


def test_a_layer_of_a_keras_network_can_be_the_bottleneck(tmp_path):
    assert in_tensorflow(loaded("mobilenet_bundled", tmp_path, target="conv_pw_5_relu")).shape == (2, 128)


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


@pytest.mark.parametrize(
    ("name", "size", "dimension"),
    [("VGG19", 64, 512), ("InceptionV3", 96, 2048), ("MobileNetV3Small", 224, 576), ("EfficientNetV2B0", 64, 1280)],
)
def test_keras_names_work_with_random_weights(tmp_path, name, size, dimension):
    found = loaded(f"keras:{name}", tmp_path, weights="random", height=size, width=size)
    assert_works(found, tmp_path, size=size, dimension=dimension)


def test_preprocessing_of_keras_is_inside_the_graph(tmp_path):
    import keras

    found = loaded("keras:VGG16", tmp_path, weights="random", height=32, width=32)
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(input_shape=(32, 32, 3), include_top=False, pooling="avg", weights=None)
    pixels = export.probe_image(32, 32)[None].astype(np.float32)
    expected = model(keras.applications.vgg16.preprocess_input(pixels.copy())).numpy()
    assert in_tensorflow(found)[:1] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_random_weights_follow_the_seed(tmp_path):
    options = {"weights": "random", "height": 32, "width": 32}
    one, same, other = (
        in_tensorflow(loaded("keras:MobileNet", tmp_path / str(i), seed=seed, **options))
        for i, seed in enumerate((1, 1, 2))
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_tf2_hub_module_takes_zero_to_one(tmp_path):
    import tensorflow as tf

    module = colour_module()
    tf.saved_model.save(module, str(tmp_path / "module"))
    spec = catalogue.from_hub(str(tmp_path / "module"))
    found = loaded(spec, tmp_path, height=32, width=32)
    vectors = assert_works(found, tmp_path, size=32, dimension=3)
    picture = export.probe_image(32, 32)[None] / 255
    assert vectors[:1] == pytest.approx(picture.mean((1, 2)) * [1, 2, 3], abs=1e-4)


def write_tf1_hub_module(folder, size=24, initialiser=None):
    """Write what tensorflow_hub's exporter of TensorFlow 1 wrote: a signature "default" and no tags."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, size, size, 3], name="images")
        scale = v1.get_variable("scale", initializer=[1.0, 2.0, 3.0], use_resource=False)
        features = tf.reduce_mean(images, [1, 2]) * scale
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.build_signature_def(
            {"images": v1.saved_model.build_tensor_info(images)},
            {"default": v1.saved_model.build_tensor_info(features)},
        )
        builder = v1.saved_model.Builder(str(folder))
        main_op = None
        if initialiser:
            main_op = tf.raw_ops.SaveV2(
                prefix=initialiser, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)], name="evil"
            )
        builder.add_meta_graph_and_variables(session, [], {"default": signature}, main_op=main_op)
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_tf1_hub_module_works_and_tells_its_size(tmp_path):
    found = loaded(catalogue.from_hub(str(write_tf1_hub_module(tmp_path / "module"))), tmp_path)
    vectors = assert_works(found, tmp_path, size=24, dimension=3)
    picture = export.probe_image(24, 24)[None] / 255
    assert vectors[:1] == pytest.approx(picture.mean((1, 2)) * [1, 2, 3], abs=1e-4)


def test_a_saved_model_folder_is_an_architecture(tmp_path):
    import tensorflow as tf

    module = colour_module(20)
    tf.saved_model.save(module, str(tmp_path / "module"), signatures=module.__call__.get_concrete_function())
    found = loaded(str(tmp_path / "module"), tmp_path)
    assert_works(found, tmp_path, size=20, dimension=3)


def test_a_saved_model_that_writes_files_is_refused_before_it_is_loaded(tmp_path):
    import tensorflow as tf

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            tf.raw_ops.WriteFile(filename=str(tmp_path / "pwned"), contents="x")
            return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Evil(), str(tmp_path / "module"))
    with pytest.raises(GraphError, match="WriteFile"):
        loaded(str(tmp_path / "module"), tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_would_save_a_file_while_it_is_loaded_is_refused(tmp_path):
    folder = write_tf1_hub_module(tmp_path / "module", initialiser=str(tmp_path / "pwned"))
    with pytest.raises(GraphError, match="writes files when it is loaded"):
        loaded(catalogue.from_hub(str(folder)), tmp_path)
    assert not list(tmp_path.glob("pwned*"))


def small_keras(rescaling, top=True):
    import keras

    layers = [keras.Input((20, 20, 3))]
    layers += [keras.layers.Rescaling(1 / 255)] if rescaling else []
    layers += [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    layers += [keras.layers.Dense(10, activation="softmax")] if top else []
    return keras.Sequential(layers)


def test_a_keras_file_is_cut_before_its_classifier(tmp_path):
    small_keras(rescaling=True).save(tmp_path / "model.keras")
    found = loaded(str(tmp_path / "model.keras"), tmp_path)
    assert (found.mean, found.std) == (0.0, 1.0)
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


def test_a_frozen_graph_asks_for_what_it_does_not_tell(mean_colour_backbone, tmp_path):
    with pytest.raises(BackboneError, match="--bottleneck_tensor"):
        loaded(str(mean_colour_backbone), tmp_path)
    found = loaded(str(mean_colour_backbone), tmp_path, target="mean_colour")
    assert_works(found, tmp_path, size=16, dimension=3)


def test_a_second_load_reads_what_the_first_one_froze(tmp_path, monkeypatch):
    first = loaded("mobilenet_bundled", tmp_path)
    monkeypatch.setattr(loading, "_build", lambda recipe: pytest.fail("frozen twice"))
    assert loaded("mobilenet_bundled", tmp_path) == first


def test_anything_that_changes_a_bottleneck_changes_the_folder(tmp_path, data):
    weights = next((data / "models").glob("*.h5"))

    def name(architecture, **options):
        spec = catalogue.find(architecture)
        return sources.locate(spec, model_dir=data / "models", **options).folder_name

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


def test_a_copy_of_the_same_weights_shares_the_folder(tmp_path, data):
    archive = data / "models" / "mobilenet_v1_0.25_128_frozen.tgz"
    (tmp_path / archive.name).write_bytes(archive.read_bytes())
    spec = catalogue.find("mobilenet_0.25_128")
    here, there = (sources.locate(spec, model_dir=folder) for folder in (data / "models", tmp_path))
    assert here.folder_name == there.folder_name


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_archive_is_one_clear_error(tmp_path, data, content):
    name = "mobilenet_v1_1.0_224_frozen.tgz"
    whole = (data / "models" / "mobilenet_v1_0.25_128_frozen.tgz").read_bytes()
    (tmp_path / name).write_bytes(whole[:100_000] if content is None else content)
    with pytest.raises(BackboneError, match=rf"{name}.*Delete it and run again"):
        loaded("mobilenet_1.0_224", tmp_path, model_dir=tmp_path)


@pytest.mark.parametrize(
    ("architecture", "options", "words"),
    [
        ("keras:MobileNetV2", {"weights": "nowhere.h5"}, "cannot read the weights nowhere.h5"),
        ("mobilenet_0.25_128", {"weights": "x.h5"}, "--weights goes with"),
        ("keras:VGG19", {"weights": "random", "height": 8, "width": 8}, "refuses 8 x 8"),
        ("mobilenet_bundled", {"height": 8, "width": 8}, "refuses 8 x 8"),
        ("mobilenet_bundled", {"weights": __file__}, "does not hold the weights of a MobileNet"),
        ("mobilenet_bundled", {"target": "conv_pw_13_rely"}, "no layer 'conv_pw_13_rely'.*conv_pw_13_relu"),
        ("mobilenet_bundled", {"source": "input"}, "--input_layer goes with frozen graphs"),
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
    assert all(word in message for word in ("https://", "mobilenet_1_0_128", "~/.keras/models", "mobilenet_bundled"))


def test_a_hub_url_without_network_is_one_clear_error(tmp_path):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*mobilenet_bundled"):
        loaded(catalogue.from_hub("http://127.0.0.1:9/module/1"), tmp_path)


def test_kinds_are_told_apart():
    assert catalogue.find("inception_v3").kind is Kind.ARCHIVE
    assert catalogue.from_hub("x").kind is Kind.HUB


def test_another_image_size_is_taken_where_the_network_allows_it_and_refused_where_not(tmp_path):
    found = loaded("mobilenet_bundled", tmp_path, height=64, width=64)
    assert (found.height, found.width, found.dimension) == (64, 64, 512)
    small_keras(rescaling=True).save(tmp_path / "fixed.keras")
    with pytest.raises(BackboneError, match="no other size"):
        loaded(str(tmp_path / "fixed.keras"), tmp_path, height=99, width=99)


def limited(most):
    """Return a function that runs at most so many images at once, and counts its calls."""
    import tensorflow as tf

    calls = []

    def run(pixels):
        calls.append(len(pixels))
        if len(pixels) > most:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return pixels.mean(axis=(1, 2), dtype=np.float32)

    return run, calls


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    pixels = np.random.default_rng(0).integers(0, 255, (11, 4, 4, 3)).astype(np.uint8)
    run, calls = limited(3)
    told = []
    vectors = runner.halving(run, pixels, most=11, warn=told.append)
    assert vectors == pytest.approx(pixels.mean(axis=(1, 2)), abs=1e-4)
    assert told == [5, 2]
    assert calls == [11, 5, 2, 2, 2, 2, 2, 1]


def test_an_image_that_does_not_fit_alone_is_one_clear_error():
    run, _ = limited(0)
    with pytest.raises(BackboneError, match="one image alone does not fit"):
        runner.halving(run, np.zeros((2, 4, 4, 3), np.uint8), most=2, warn=lambda most: None)
