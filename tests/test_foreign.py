"""Models of other tools, as these write them, read by `label_image` and `evaluate`."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from conftest import COLOURS, colour_folder, command, metadata_schema, photo

from retrain.errors import GraphError, RetrainError
from retrain.formats.litert import flatbuffer
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec

NAMES = sorted(COLOURS)
SIZE = 16


def network(*, rescaling, softmax=True, size=SIZE):
    """Return a Keras classifier that knows the three colours by their mean; its pixels are 0 to 255, or -1 to 1."""
    import keras

    image = keras.Input((size, size, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(image) if rescaling else image
    mean = keras.layers.GlobalAveragePooling2D()(scaled)
    scores = keras.layers.Dense(3, activation="softmax" if softmax else None)(mean)
    model = keras.Model(image, scores)
    matrix = np.array([COLOURS[name] for name in NAMES], np.float32).T / 127.5 - 1
    model.layers[-1].set_weights([matrix * 9, np.zeros(3, np.float32)])
    return model


def tflite(model, path, adjust=lambda converter: None):
    """Write a Keras model as its users do."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    adjust(converter)
    path.write_bytes(converter.convert())
    return path


def quantised(converter):
    import tensorflow as tf

    def shown():
        for colour in [*COLOURS.values(), (0, 0, 0), (255, 255, 255)]:
            yield [np.full((1, SIZE, SIZE, 3), colour, np.float32) / 127.5 - 1]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = shown
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8


@pytest.fixture
def pictures(tmp_path):
    return [photo(tmp_path / f"{name}.png", COLOURS[name], (40, 30)) for name in NAMES]


@pytest.fixture
def labels(tmp_path):
    """A labels file as Teachable Machine writes it."""
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{number} {name}\n" for number, name in enumerate(NAMES)))
    return path


def named(model, pictures):
    return [result.ranked[0].label for result in prediction.label(model, pictures)]


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
@pytest.mark.slow
def test_a_teachable_machine_model_needs_its_range_only_where_it_takes_floats(tmp_path, pictures, labels):
    floats = tflite(network(rescaling=False), tmp_path / "model_unquant.tflite")
    with pytest.raises(GraphError, match=r"Give --input_mean, --input_std\. Mean and std are 127\.5 .* Teachable"):
        model_loading.load(floats)
    assert (
        named(model_loading.load(floats, overrides=Metadata(input=InputSpec(mean=127.5, std=127.5))), pictures) == NAMES
    )
    whole = tflite(network(rescaling=False), tmp_path / "model.tflite", quantised)
    assert named(model_loading.load(whole), pictures) == NAMES


def test_a_tflite_model_that_scales_its_pixels_needs_labels_only(tmp_path, pictures):
    path = tflite(network(rescaling=True), tmp_path / "flowers.tflite")
    with pytest.raises(GraphError, match=r"Give --labels\.$"):
        model_loading.load(path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    model = model_loading.load(path, labels=tmp_path / "names.txt")
    assert (model.metadata.input.mean, model.metadata.input.std) == (0, 1)
    assert named(model, pictures) == NAMES


@pytest.mark.slow
def test_a_tflite_model_that_squares_its_pixels_asks_for_their_range(tmp_path, labels):
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    squared = keras.layers.Multiply()([image, image])
    scores = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(squared))
    path = tflite(keras.Model(image, scores), tmp_path / "m.tflite")
    with pytest.raises(GraphError, match="Give --input_mean, --input_std"):
        model_loading.load(path)


def test_metadata_that_the_schemas_own_code_wrote_are_read(tmp_path, pictures):
    import flatbuffers

    made = metadata_schema()
    options, unit = made.NormalizationOptionsT(), made.ProcessUnitT()
    options.mean, options.std = [127.5, 127.5, 127.5], [127.5, 127.5, 127.5]
    unit.optionsType, unit.options = made.ProcessUnitOptions.NormalizationOptions, options
    file = made.AssociatedFileT()
    file.name, file.type = "names/probability.txt", made.AssociatedFileType.TENSOR_AXIS_LABELS
    taken, given, subgraph, told = (
        made.TensorMetadataT(), made.TensorMetadataT(), made.SubGraphMetadataT(), made.ModelMetadataT(),
    )  # fmt: skip
    taken.processUnits, given.associatedFiles = [unit], [file]
    subgraph.inputTensorMetadata, subgraph.outputTensorMetadata = [taken], [given]
    told.subgraphMetadata = [subgraph]
    builder = flatbuffers.Builder()
    builder.Finish(told.Pack(builder), file_identifier=b"M001")
    plain = tflite(network(rescaling=False), tmp_path / "plain.tflite").read_bytes()
    path = tmp_path / "model_maker.tflite"
    path.write_bytes(flatbuffer.add_metadata(plain, {"TFLITE_METADATA": bytes(builder.Output())}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("names/probability.txt", "\n".join(NAMES))
    model = model_loading.load(path)
    assert (model.metadata.labels, model.metadata.input.mean, model.metadata.input.std) == (tuple(NAMES), 127.5, 127.5)
    assert named(model, pictures) == NAMES


@pytest.mark.parametrize("softmax", [True, False])
def test_a_plain_keras_classifier_gives_probabilities_even_from_logits(tmp_path, pictures, labels, softmax):
    network(rescaling=True, softmax=softmax).save(tmp_path / "classifier.keras")
    model = model_loading.load(tmp_path / "classifier.keras", labels=labels)
    for result in prediction.label(model, pictures):
        assert result.ranked[0].label == result.path.stem
        assert sum(ranked.score for ranked in result.ranked) == pytest.approx(1, abs=1e-5)


def test_a_keras_classifier_without_scaling_asks_for_the_range(tmp_path, pictures, labels):
    network(rescaling=False).save(tmp_path / "classifier.keras")
    with pytest.raises(GraphError, match=r"Give --input_mean, --input_std"):
        model_loading.load(tmp_path / "classifier.keras")
    overrides = Metadata(input=InputSpec(mean=127.5, std=127.5))
    assert named(model_loading.load(tmp_path / "classifier.keras", overrides=overrides), pictures) == NAMES


def test_a_keras_model_of_any_size_asks_for_one(tmp_path, pictures, labels):
    network(rescaling=True, size=None).save(tmp_path / "any.keras")
    with pytest.raises(GraphError, match=r"Give --input_height, --input_width\."):
        model_loading.load(tmp_path / "any.keras")
    assert (
        named(
            model_loading.load(tmp_path / "any.keras", overrides=Metadata(input=InputSpec(height=20, width=24))),
            pictures,
        )
        == NAMES
    )


def test_a_keras_file_that_would_run_code_is_refused(tmp_path, labels):
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    scores = keras.layers.Lambda(lambda pixels: pixels[:, 0, 0, :])(image)
    keras.Model(image, scores).save(tmp_path / "program.keras")
    with pytest.raises(GraphError, match="cannot load"):
        model_loading.load(tmp_path / "program.keras", labels=labels)


def test_a_saved_model_of_keras_is_read_by_its_signature(tmp_path, pictures, labels):
    network(rescaling=True).export(tmp_path / "saved", verbose=False)
    model = model_loading.load(
        tmp_path / "saved", labels=labels, overrides=Metadata(input=InputSpec(mean=0.0, std=1.0))
    )
    assert named(model, pictures) == NAMES
    assert model.class_count == 3


def test_a_saved_model_that_could_do_more_than_compute_is_refused(tmp_path, labels):
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3])])
        def serve(self, image):
            tf.io.write_file(str(tmp_path / "stolen"), "x")
            return {"scores": tf.reduce_mean(image, [1, 2])}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    with pytest.raises(GraphError, match="is refused: its node .* is a WriteFile operation"):
        model_loading.load(tmp_path / "saved", labels=labels)
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("channels_first", [True, False])
def test_an_onnx_model_takes_its_channels_where_it_wants_them(tmp_path, pictures, labels, channels_first):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.array([COLOURS[name] for name in NAMES], np.float32).T / 127.5 - 1
    shape, axes = (["n", 3, SIZE, SIZE], [2, 3]) if channels_first else (["n", SIZE, SIZE, 3], [1, 2])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(matrix * 9, "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "net.onnx")
    with pytest.raises(GraphError, match="Give --input_mean, --input_std"):
        model_loading.load(tmp_path / "net.onnx")
    model = model_loading.load(tmp_path / "net.onnx", overrides=Metadata(input=InputSpec(mean=127.5, std=127.5)))
    assert named(model, pictures) == NAMES
    (result,) = prediction.label(model, pictures[:1])
    assert sum(ranked.score for ranked in result.ranked) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["m.tflite", "m.keras", "m.h5", "m.onnx", "m.pb", "folder"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish" * 9, b"\x08\x07" * 99])
def test_what_is_no_model_is_one_clear_error(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        file = path / "saved_model.pb" if name == "folder" else path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    with pytest.raises(RetrainError, match=name) as caught:
        model_loading.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.onnx", "m.keras", "m.tflite"])
def test_the_runtimes_themselves_keep_quiet(tmp_path, pictures, name):
    (tmp_path / name).write_bytes(b"rubbish" * 9)
    done = command("label_image", "--graph", name, pictures[0], cwd=tmp_path, code=1)
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_a_size_or_a_name_that_a_model_does_not_take_is_said(tmp_path, labels):
    network(rescaling=True).save(tmp_path / "m.keras")
    tflite(network(rescaling=True), tmp_path / "m.tflite")
    network(rescaling=True).export(tmp_path / "saved", verbose=False)
    for name in ("m.keras", "m.tflite"):
        wrong = Metadata(input=InputSpec(height=8, width=9, mean=0.0, std=1.0))
        said = rf"{name} takes images of \d+ x \d+ px, and --input_height=8 --input_width=9 was given"
        with pytest.raises(GraphError, match=said):
            model_loading.load(tmp_path / name, labels=labels, overrides=wrong)
    spec = InputSpec(mean=0.0, std=1.0)
    for overrides, said in (
        (Metadata(input=replace(spec, node="x")), "Name one with --input_layer"),
        (Metadata(input=spec, output="x"), "--output_layer"),
    ):
        with pytest.raises(GraphError, match=said):
            model_loading.load(tmp_path / "saved", labels=labels, overrides=overrides)


@pytest.mark.slow
def test_evaluate_measures_a_model_of_another_tool(tmp_path, labels):
    network(rescaling=True).save(tmp_path / "theirs.keras")
    colour_folder(tmp_path / "photos", per_class=5)
    done = command(
        "evaluate", "theirs.keras", "--labels", labels, "--image_dir", "photos", "--split", "all", cwd=tmp_path
    )
    assert done.stdout.startswith("Accuracy: 1 (N=15, 95% interval 79.6% to 100.0%)\n")
