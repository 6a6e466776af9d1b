"""The range of pixels that models of other tools take: read where a file says it, asked for where it does not."""

import numpy as np
import pytest
from conftest import photo, write_graph

from retrain.errors import GraphError
from retrain.formats import frozen_graph
from retrain.formats.litert import flatbuffer
from retrain.formats.litert import metadata as standard
from retrain.formats.litert import model as litert_model
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

ASKED = None
UNIT, WHOLE, SIGNED = (0.0, 255.0), (0.0, 1.0), (127.5, 127.5)  # mean and std for [0, 1], [0, 255] and [-1, 1]
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def classifier(*layers, size=16, softmax=True, matrix=((1, 0), (0, 1), (0, 0))):
    """Return a Keras model of layers on the image, then its mean, then two scores."""
    import keras

    image = scaled = keras.Input((size, size, 3))
    for layer in layers:
        scaled = layer(scaled)
    dense = keras.layers.Dense(2, activation="softmax" if softmax else None)
    model = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(scaled)))
    dense.set_weights([np.array(matrix, np.float32), np.zeros(2, np.float32)])
    return model


def scaling_layers(name):
    from keras import Sequential, layers

    return {
        "none": [],
        "pixels": [layers.Rescaling(1 / 127.5, -1)],
        "unit": [layers.Rescaling(2.0, -1.0)],
        "signed": [layers.Rescaling(0.5, 0.5)],
        "strange": [layers.Rescaling(3.0, 0.1)],
        "after random ones": [Sequential([layers.RandomFlip(), layers.RandomZoom(0.1)]), layers.Rescaling(1 / 255)],
        "inside": [layers.Resizing(8, 8), Sequential([layers.Rescaling(1 / 255), layers.Conv2D(3, 1)])],
        "too late": [layers.Conv2D(3, 1), layers.Rescaling(1 / 255)],
        "normalised pixels": [layers.Normalization(mean=IMAGENET[0], variance=[s**2 for s in IMAGENET[1]])],
        "normalised": [layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.0524, 0.0502, 0.0506])],
        "not adapted": [layers.Normalization()],
    }[name]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("none", ASKED), ("pixels", WHOLE), ("unit", UNIT), ("signed", SIGNED), ("strange", ASKED),
        ("after random ones", WHOLE), ("inside", WHOLE), ("too late", ASKED), ("normalised pixels", WHOLE),
        ("normalised", ASKED), ("not adapted", ASKED),
    ],
)  # fmt: skip
def test_the_first_layer_of_a_keras_model_tells_its_range(tmp_path, name, taken):
    classifier(*scaling_layers(name)).save(tmp_path / "m.keras")
    spec = model_loading.describe(tmp_path / "m.keras").input
    assert (spec.mean, spec.std) == (taken or (None, None))
    if taken is ASKED:
        with pytest.raises(GraphError, match="Give --input_mean, --input_std, --labels"):
            model_loading.load(tmp_path / "m.keras")


def test_an_image_that_goes_two_ways_tells_no_range(tmp_path):
    import keras

    image = keras.Input((8, 8, 3))
    both = keras.layers.Concatenate()([keras.layers.Rescaling(1 / 255)(image), image])
    scores = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(both))
    keras.Model(image, scores).save(tmp_path / "m.keras")
    assert model_loading.describe(tmp_path / "m.keras").input.mean is None


def converted(path, model, brightest=None, kind="uint8"):
    """Write a LiteRT model, in whole numbers calibrated on grey images of 0 to a brightness."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if brightest is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        steps = [[np.full((1, 16, 16, 3), value, np.float32)] for value in np.linspace(*brightest, 5)]
        converter.representative_dataset = lambda: steps
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    path.write_bytes(converter.convert())
    return path


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("ends", [(0, 1), (-1, 1), (0, 255), (0, 0.545), (-0.4, 2.1)])
def test_a_calibration_is_the_range_of_pixels_only_where_it_is_a_whole_one(tmp_path, kind, ends):
    path = converted(tmp_path / "m.tflite", classifier(), ends, kind)
    spec = litert_model.describe(path).input
    if ends in ((0, 1), (-1, 1), (0, 255)):
        assert spec.scale(np.array([0, 255], np.uint8)) == pytest.approx(np.array(ends), abs=0.02 * (ends[1] - ends[0]))
    else:
        assert (spec.mean, spec.std) == (None, None)
        said = flatbuffer.add_metadata(
            path.read_bytes(), {standard.NOTE: standard.pack(standard.ClassifierMetadata(mean=0.0, std=255.0))}
        )
        path.write_bytes(standard.add_labels_file(said, ("a", "b")))
        described = litert_model.describe(path)
        assert (described.labels, described.input.mean, described.input.std) == (("a", "b"), 0.0, 255.0)


@pytest.mark.parametrize(
    ("name", "taken"), [("none", ASKED), ("pixels", WHOLE), ("unit", UNIT), ("strange", ASKED), ("normalised", ASKED)]
)
def test_the_first_operations_of_a_litert_model_tell_its_range(tmp_path, name, taken):
    spec = litert_model.describe(converted(tmp_path / "m.tflite", classifier(*scaling_layers(name)))).input
    assert (spec.mean, spec.std) == (taken or (None, None))


def test_three_means_go_into_the_standard_metadata_and_come_back(tmp_path):
    told = standard.pack(standard.ClassifierMetadata(mean=IMAGENET[0], std=IMAGENET[1]))
    plain = converted(tmp_path / "m.tflite", classifier()).read_bytes()
    path = tmp_path / "told.tflite"
    path.write_bytes(standard.add_labels_file(flatbuffer.add_metadata(plain, {standard.NOTE: told}), ("a", "b")))
    spec = litert_model.describe(path).input
    assert (spec.mean, spec.std) == (pytest.approx(IMAGENET[0]), pytest.approx(IMAGENET[1]))


def test_a_litert_model_of_any_size_asks_for_one_and_runs_at_it(tmp_path):
    path = converted(tmp_path / "m.tflite", classifier(*scaling_layers("pixels"), size=None))
    (tmp_path / "labels.txt").write_text("red\ngreen\n")
    with pytest.raises(GraphError, match=r"Give --input_height, --input_width\."):
        model_loading.load(path)
    model = model_loading.load(path, overrides=Metadata(input=InputSpec(height=12, width=20)))
    pictures = [photo(tmp_path / "red.png", (250, 9, 9)), photo(tmp_path / "green.png", (9, 250, 9))]
    assert [p.ranked[0].label for p in prediction.label(model, pictures)] == ["red", "green"]
    assert model.scores(np.zeros((1, 12, 20, 3), np.uint8)).shape == (1, 2)
    with pytest.raises(GraphError, match="does not run on 16 x 16 px"):
        model.scores(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    ("scale", "taken"),
    [
        (lambda image: image * 2.0 - 1.0, UNIT),
        (lambda image: (image - 0.5) * 2.0, UNIT),
        (lambda image: image / 127.5 - 1.0, WHOLE),
        (lambda image: (image / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], WHOLE),
        (lambda image: image * 2.0, ASKED),
        (lambda image: image * 0.001, ASKED),
    ],
)
def test_the_first_nodes_of_a_graph_tell_its_range(scale, taken):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
        tf.nn.softmax(tf.reduce_mean(scale(image), [1, 2]), name="final_result")
    spec = frozen_graph.metadata_of(graph.as_graph_def()).input
    assert (spec.mean, spec.std) == (taken or (None, None))


def test_three_means_reach_every_format(tmp_path):
    """The same network in a graph, a Keras and a LiteRT file gives the same with ImageNet's own scaling."""
    model = classifier(matrix=((1, 0), (0, 2), (-1, 0)))
    model.save(tmp_path / "m.keras")
    converted(tmp_path / "m.tflite", model)
    write_graph(
        tmp_path / "m.pb",
        lambda tf, image: tf.nn.softmax(
            tf.reduce_mean(image, [1, 2]) @ tf.constant([[1.0, 0], [0, 2], [-1, 0]]), name="final_result"
        ),
    )
    (tmp_path / "labels.txt").write_text("a\nb\n")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    scaled = ((pixels - np.array(IMAGENET[0])) / IMAGENET[1]).mean(axis=(1, 2)) @ [[1, 0], [0, 2], [-1, 0]]
    expected = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    for name in ("m.keras", "m.tflite", "m.pb"):
        overrides = Metadata(input=InputSpec(mean=IMAGENET[0], std=IMAGENET[1]))
        loaded = model_loading.load(tmp_path / name, labels=tmp_path / "labels.txt", overrides=overrides)
        assert loaded(pixels) == pytest.approx(expected, abs=1e-5), name
