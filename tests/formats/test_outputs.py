"""Models of other tools whose answers are not one softmax: read, or refused in one line."""

import json

import numpy as np
import pytest
from conftest import photo, write_graph

from retrain.errors import GraphError
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

SIZE = 8
PIXELS = Metadata(input=InputSpec(mean=0.0, std=255.0))


def network(*outputs, channels=3):
    """Return a Keras model of one image 0 to 1 to its mean, and to other layers of that."""
    import keras

    image = keras.Input((SIZE, SIZE, channels))
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(image)
    made = {layer.name: layer(mean) for layer in outputs}
    return keras.Model(image, made if len(made) > 1 else next(iter(made.values())))


def saved(model, path):
    import tensorflow as tf

    if path.suffix == ".tflite":
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    elif path.suffix:
        model.save(path)
    else:
        model.export(path, verbose=False)
    return path


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("dark\nbright\n")
    return path


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.tflite", "m"])
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_unit_gives_both_of_two_classes(tmp_path, labels, name, activation):
    import keras

    dense = keras.layers.Dense(1, activation=activation, name="unit")
    model = network(dense)
    dense.set_weights([np.full((3, 1), 4.0, np.float32), np.array([-6.0], np.float32)])
    loaded = model_loading.load(saved(model, tmp_path / name), labels=labels, overrides=PIXELS)
    pictures = [photo(tmp_path / "dark.png", (9, 9, 9)), photo(tmp_path / "bright.png", (240, 240, 240))]
    for found in prediction.label(loaded, pictures):
        assert found.ranked[0].label == found.path.stem
        assert [ranked.score for ranked in found.ranked] == pytest.approx([0.99, 0.01], abs=0.02)


@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "m"])
def test_of_several_outputs_one_is_named(tmp_path, labels, name):
    import keras

    scores = keras.layers.Dense(2, activation="softmax", name="scores")
    path = saved(network(scores, keras.layers.Dense(5, name="features")), tmp_path / name)
    scores_of = PIXELS.filled_from(Metadata(output="scores"))
    assert model_loading.load(path, labels=labels, overrides=scores_of).class_count == 2
    with pytest.raises(GraphError, match=r"features.*Name one with --output_layer\.$"):
        model_loading.load(path, labels=labels, overrides=PIXELS.filled_from(Metadata(output="other")))
    if name != "m":  # a SavedModel's signature is read by the names that such outputs have
        with pytest.raises(GraphError, match=r"gives .*features.*Name one with --output_layer\.$"):
            model_loading.load(path, labels=labels, overrides=PIXELS)


def onnx_model(path, outputs, kind="FLOAT", channels=3):
    from onnx import TensorProto, helper, numpy_helper, save

    dtype = {"FLOAT": np.float32, "FLOAT16": np.float16, "DOUBLE": np.float64}[kind]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    kinds = {"scores": (getattr(TensorProto, kind), ["n", 2]), "label": (TensorProto.INT64, ["n"])}
    kinds["logits"] = kinds["scores"]
    taken = helper.make_tensor_value_info("x", getattr(TensorProto, kind), ["n", channels, SIZE, SIZE])
    given = [helper.make_tensor_value_info(name, *kinds[name]) for name in outputs]
    weights = numpy_helper.from_array(np.eye(channels, 2, dtype=dtype) * 9, "w")
    graph = helper.make_graph(nodes, "g", [taken], given, [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE"])
@pytest.mark.parametrize("outputs", [["scores"], ["label", "scores"], ["logits"]])
def test_onnx_models_of_any_float_type_with_their_label_first_are_read(tmp_path, labels, outputs, kind):
    loaded = model_loading.load(onnx_model(tmp_path / "m.onnx", outputs, kind), labels=labels, overrides=PIXELS)
    (found,) = prediction.label(loaded, [photo(tmp_path / "p.png", (9, 250, 9))])
    assert found.ranked[0].label == "bright"
    assert sum(ranked.score for ranked in found.ranked) == pytest.approx(1, abs=1e-3)


def test_an_onnx_model_of_two_kinds_of_scores_or_of_class_numbers_alone_is_refused(tmp_path, labels):
    path = onnx_model(tmp_path / "m.onnx", ["logits", "scores"])
    with pytest.raises(GraphError, match=r"gives logits, scores\. Name one with --output_layer\.$"):
        model_loading.load(path, labels=labels, overrides=PIXELS)
    numbers = model_loading.load(onnx_model(path, ["label"]), labels=labels, overrides=PIXELS)
    with pytest.raises(GraphError, match="gives int64 and no scores at label"):
        list(prediction.label(numbers, [photo(tmp_path / "p.png", (9, 250, 9))]))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "m", "m.onnx", "m.pb"])
def test_models_of_other_than_rgb_images_are_refused_by_name(tmp_path, labels, name, channels):
    import keras
    import tensorflow as tf

    path, overrides = tmp_path / name, PIXELS
    if name == "m.onnx":
        onnx_model(path, ["scores"], channels=channels)
    elif name == "m.pb":
        with tf.Graph().as_default() as graph:
            image = tf.compat.v1.placeholder(tf.float32, [None, SIZE, SIZE, channels], name="image")
            tf.nn.softmax(tf.reduce_mean(image, [1, 2]), name="final_result")
        path.write_bytes(graph.as_graph_def().SerializeToString())
        overrides = Metadata(input=InputSpec("image", SIZE, SIZE, 0.0, 1.0))
    else:
        saved(network(keras.layers.Dense(2, activation="softmax"), channels=channels), path)
    with pytest.raises(GraphError, match=rf"{name} .*(RGB image|{channels} channel)"):
        model_loading.load(path, labels=labels, overrides=overrides)


def test_a_graph_of_half_floats_is_fed_and_one_of_two_results_says_so(tmp_path, labels):
    import tensorflow as tf

    def halves(path, *names):
        with tf.Graph().as_default() as graph:
            image = tf.compat.v1.placeholder(tf.float16, [None, SIZE, SIZE, 3], name="image")
            for name in names:
                tf.nn.softmax(tf.reduce_mean(image, [1, 2])[:, :2], name=name)
        path.write_bytes(graph.as_graph_def().SerializeToString())
        return path

    loaded = model_loading.load(halves(tmp_path / "m.pb", "scores"), labels=labels, overrides=PIXELS)
    assert loaded(np.zeros((2, SIZE, SIZE, 3), np.uint8)) == pytest.approx(np.full((2, 2), 0.5))
    with pytest.raises(GraphError, match=r"gives one, two\. Name one with --output_layer\.$"):
        model_loading.load(halves(tmp_path / "two.pb", "one", "two"), labels=labels, overrides=PIXELS)


def test_no_number_is_no_class(tmp_path, labels):
    path = write_graph(
        tmp_path / "m.pb",
        lambda tf, image: tf.nn.softmax(tf.math.log(tf.reduce_mean(image - 0.5, [1, 2])[:, :2]), name="final_result"),
    )
    loaded = model_loading.load(path, labels=labels)
    dark, bright = prediction.label(loaded, [photo(tmp_path / f"{v}.png", (v, v, v)) for v in (0, 255)])
    assert (dark.ranked, dark.error) == ((), "the model gives NaN for it, which is no score")
    assert bright.error is None


def test_teachable_machines_keras_files_are_read_and_still_run_no_code(tmp_path):
    """Its files are of Keras 2, whose depthwise convolutions say `groups`, which Keras 3 does not know."""
    import h5py
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    depthwise = keras.layers.DepthwiseConv2D(1, use_bias=False)(image)
    dense = keras.layers.Dense(3, activation="softmax")
    keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(depthwise))).save(tmp_path / "keras_model.h5")
    with h5py.File(tmp_path / "keras_model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    (tmp_path / "labels.txt").write_text("0 a\n1 b\n2 c\n")
    model = model_loading.load(tmp_path / "keras_model.h5", overrides=Metadata(input=InputSpec(mean=127.5, std=127.5)))
    assert (model.metadata.labels, model.class_count) == (("a", "b", "c"), 3)
    keras.Sequential([image, keras.layers.Lambda(lambda x: x[:, 0, 0, :])]).save(tmp_path / "program.h5")
    with pytest.raises(GraphError, match="cannot load"):
        model_loading.load(tmp_path / "program.h5")
