"""What was written for the original retrain.py goes on working: its loaders, its flags, its files, its graphs."""

import io
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from builders import graph_model
from conftest import ROOT, command, photo

from retrain import metadata
from retrain.config import RetrainConfig
from retrain.formats import frozen_graph
from retrain.graphs import detection, editing, nodes, reading
from retrain.inference import loading as model_loading
from retrain.inference import prediction
from retrain.pipeline import retrain

# The operations of TensorFlow 1.4 that our graphs use, each with the attributes that it had then:
# https://github.com/tensorflow/tensorflow/blob/r1.4/tensorflow/core/ops/ops.pbtxt
TENSORFLOW_1_4 = {
    "Add": {"T"},
    "AvgPool": {"T", "ksize", "strides", "padding", "data_format"},
    "BiasAdd": {"T", "data_format"},
    "Const": {"dtype", "value"},
    "Conv2D": {"T", "strides", "use_cudnn_on_gpu", "padding", "data_format"},
    "DepthwiseConv2dNative": {"T", "strides", "padding", "data_format"},
    "Dequantize": {"T", "mode"},
    "Identity": {"T"},
    "MatMul": {"T", "transpose_a", "transpose_b"},
    "Mean": {"T", "Tidx", "keep_dims"},
    "Mul": {"T"},
    "Pad": {"T", "Tpaddings"},
    "Placeholder": {"dtype", "shape"},
    "PlaceholderWithDefault": {"dtype", "shape"},
    "Relu6": {"T"},
    "Reshape": {"T", "Tshape"},
    "Softmax": {"T"},
}
CODELAB = [
    "mobilenet_0.25_128",
    pytest.param("mobilenet_0.25_224", marks=pytest.mark.slow),
    "mobilenet_0.25_128_quantized",
    pytest.param("mobilenet_bundled", marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session")
def flowers(codelab_data, tmp_path_factory):
    """Forty photos of each of three flowers."""
    folder = tmp_path_factory.mktemp("flowers")
    for name in ("daisy", "roses", "sunflowers"):
        (folder / name).mkdir()
        for image in sorted((codelab_data / "datasets" / "flowers_1100" / name).glob("*.jpg"))[:40]:
            (folder / name / image.name).symlink_to(image)
    return folder


@pytest.fixture(scope="session")
def trained(codelab_data, flowers, tmp_path_factory):
    """Return a function that trains on the flowers with some settings, on one store for all tests."""
    kept = tmp_path_factory.mktemp("kept")

    def train(folder, **settings):
        config = RetrainConfig(
            image_dir=flowers,
            output_graph=folder / "g.pb",
            output_labels=folder / "labels.txt",
            summaries_dir=folder / "summaries",
            bottleneck_dir=kept / "bottlenecks",
            model_dir=codelab_data / "models",
            checkpoint_path=folder / "head",
            intermediate_output_graphs_dir=folder / "intermediate",
            testing_percentage=25,
        )
        given = {"architecture": "mobilenet_0.25_128", "how_many_training_steps": 100, **settings}
        return retrain(replace(config, **given))

    return train


def old_scores(path, pixels, source="import/input", output="import/final_result"):
    """Return what the codelab's own label_image.py computes, through the calls that it makes."""
    import tensorflow as tf

    graph, graph_def = tf.Graph(), tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    with graph.as_default():
        tf.import_graph_def(graph_def)
    taken = graph.get_operation_by_name(source)
    given = graph.get_operation_by_name(output)
    with tf.compat.v1.Session(graph=graph) as session:
        return np.squeeze(session.run(given.outputs[0], {taken.outputs[0]: (pixels[None] - 128.0) / 128.0}))


@pytest.mark.parametrize("architecture", CODELAB)
def test_an_exported_graph_is_read_by_old_code(trained, flowers, tmp_path, architecture):
    trained(tmp_path, architecture=architecture)
    for node in reading.read_graph(tmp_path / "g.pb").node:
        assert set(node.attr) <= TENSORFLOW_1_4[node.op], node.op
    model = graph_model(tmp_path / "g.pb")
    for image in sorted((flowers / "daisy").glob("*.jpg"))[:3]:
        pixels = prediction.pixels(model, image.read_bytes())
        # Mean and std 128 where the network was made for 127.5 or 127: the scores differ by as little as the pixels.
        assert old_scores(tmp_path / "g.pb", pixels) == pytest.approx(model(pixels[None])[0], abs=2e-2)
        same = replace(model.metadata, input=replace(model.metadata.input, mean=128.0, std=128.0))
        asked = frozen_graph.load(tmp_path / "g.pb", same)
        assert old_scores(tmp_path / "g.pb", pixels) == pytest.approx(asked(pixels[None])[0], abs=1e-3)


@pytest.mark.slow
def test_a_keras_backbone_is_exported_in_old_operations_as_well(trained, flowers, tmp_path):
    trained(tmp_path, architecture="keras:MobileNetV2", weights="random", how_many_training_steps=5)
    for node in reading.read_graph(tmp_path / "g.pb").node:
        assert set(node.attr) <= TENSORFLOW_1_4[node.op], node.op


@pytest.mark.slow
def test_the_quantized_archive_gives_a_smaller_graph_that_works(trained, tmp_path):
    (tmp_path / "float").mkdir()
    exact = trained(tmp_path / "float")
    rounded = trained(tmp_path, architecture="mobilenet_0.25_128_quantized")
    assert rounded.test_accuracy >= exact.test_accuracy - 0.1
    assert (tmp_path / "g.pb").stat().st_size < (tmp_path / "float" / "g.pb").stat().st_size


@pytest.mark.slow
def test_the_picture_of_the_graph_has_the_backbone_in_one_scope(trained, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path, architecture="mobilenet_bundled", how_many_training_steps=2)
    events = EventAccumulator(str(tmp_path / "summaries" / "train"))
    events.Reload()
    tops = {node.name.split("/")[0] for node in events.Graph().node}
    own = {"input", "bottleneck", "input_1", "final_training_ops", "final_result", metadata.METADATA_NODE}
    assert own <= tops
    assert len(tops - own) == 1


MODEL_CHANGING = {
    "flip_left_right": True,
    "random_crop": 10,
    "random_scale": 10,
    "random_brightness": 10,
    "random_rotation": 10,
    "random_shift": 10,
    "random_shear": 10,
    "random_zoom": 10,
    "learning_rate": 0.1,
    "train_batch_size": 20,
    "how_many_training_steps": 150,
    "testing_percentage": 15,
    "validation_percentage": 20,
    "random_seed": 5,
    "bottleneck_tensor": "MobilenetV1/Predictions/Reshape",
    "architecture": "mobilenet_0.25_224",
}


@pytest.fixture(scope="session")
def plainly(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder / "g.pb", trained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL_CHANGING)
def test_a_flag_that_changes_the_model_is_used_and_leaves_it_good(trained, plainly, tmp_path, name):
    plain_graph, plain = plainly
    report = trained(tmp_path, **{name: MODEL_CHANGING[name]})
    assert (tmp_path / "g.pb").read_bytes() != plain_graph.read_bytes()
    # Of three flowers one in three would be right by chance; the interval of 30 test photos is wide.
    assert report.test_accuracy >= max(0.6, plain.test_accuracy - 0.2)


@pytest.mark.slow
def test_all_distortions_at_once_train_a_good_model_with_copies_and_fresh_ones(trained, tmp_path):
    everything = {"flip_left_right": True, "random_crop": 10, "random_scale": 10, "random_brightness": 10}
    for copies in (3, 0):
        report = trained(tmp_path, **everything, distortion_copies=copies, how_many_training_steps=20)
        assert report.test_accuracy >= 0.6
        assert report.settings["distortion_copies"] == copies


def test_distorted_pictures_are_shown(trained, tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path, flip_left_right=True, distortion_copies=2, how_many_training_steps=2)
    events = EventAccumulator(str(tmp_path / "summaries" / "train"))
    events.Reload()
    tags = events.Tags()["tensors"]
    (tag,) = (tag for tag in tags if events.SummaryMetadata(tag).plugin_data.plugin_name == "images")
    _, _, encoded = events.Tensors(tag)[0].tensor_proto.string_val  # after width and height
    sheet = Image.open(io.BytesIO(encoded))
    assert sheet.size == (9 * (128 + 4), 3 * (128 + 4))


def test_a_test_batch_is_drawn_with_replacement(trained, tmp_path):
    report = trained(tmp_path, test_batch_size=500)
    assert report.test_count == 500
    assert np.sum(report.confusion) == 500
    rows = np.sum(report.confusion, axis=1)
    # A class first, then one of its photos: five deviations of a third of 500.
    assert rows == pytest.approx(500 / 3, abs=5 * (500 * 2 / 9) ** 0.5)


def test_intermediate_graphs_and_a_checkpoint_are_written_as_they_become_ready(trained, tmp_path):
    import tensorflow as tf

    report = trained(tmp_path, intermediate_store_frequency=40, eval_step_interval=30)
    written = sorted((tmp_path / "intermediate").iterdir())
    assert [path.name for path in written] == ["intermediate_40.pb", "intermediate_80.pb"]
    # Every stored graph has its accuracy in the log, and the usual evaluations are still there.
    assert [row.step for row in report.measured] == [0, 30, 40, 60, 80, 90, 99]
    final = model_loading.load(tmp_path / "g.pb").metadata
    assert all(model_loading.load(path).metadata.labels == final.labels for path in written)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("head")
    variables = tf.train.load_checkpoint(str(tmp_path / "head"))
    (node,) = (
        n for n in reading.read_graph(tmp_path / "g.pb").node if n.name == "final_training_ops/weights/final_weights"
    )
    stored = variables.get_tensor("final_training_ops/weights/final_weights")
    assert np.array_equal(stored, tf.make_ndarray(node.attr["value"].tensor))
    assert variables.get_tensor("global_step") == 100


def test_storing_intermediate_graphs_does_not_change_the_final_one(trained, plainly, tmp_path):
    trained(tmp_path, intermediate_store_frequency=35)
    plain_graph, _ = plainly

    def head(path):
        return [n for n in reading.read_graph(path).node if n.name.startswith("final_training_ops/weights")]

    assert head(tmp_path / "g.pb") == head(plain_graph)


def test_a_saved_model_answers_as_the_originals_did(trained, flowers, tmp_path):
    import tensorflow as tf

    for steps in (20, 30):  # the second takes the place of the first
        trained(tmp_path, saved_model_dir=tmp_path / "saved", final_tensor_name="other", how_many_training_steps=steps)
    model = graph_model(tmp_path / "g.pb")
    pixels = prediction.pixels(model, next((flowers / "roses").iterdir()).read_bytes())[None]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "saved"))
        signature = meta_graph.signature_def["serving_default"]
        predicted = session.run(
            signature.outputs["prediction"].name, {signature.inputs["image"].name: pixels.astype(np.float32) / 255}
        )
    assert predicted == pytest.approx(model(pixels), abs=1e-5)
    assert model_loading.load(tmp_path / "saved")(pixels) == pytest.approx(predicted, abs=1e-5)


@pytest.mark.slow
def test_with_a_hub_module_the_nodes_are_named_as_tf_hubs_retrain_named_them(flowers, tmp_path):
    import tensorflow as tf
    from builders import colour_module

    tf.saved_model.save(colour_module(), str(tmp_path / "module"))
    config = RetrainConfig(
        image_dir=flowers, tfhub_module=str(tmp_path / "module"), input_height=16, input_width=16,
        output_graph=tmp_path / "g.pb", output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s",
        bottleneck_dir=tmp_path / "b", checkpoint_path=tmp_path / "c", how_many_training_steps=5,
    )  # fmt: skip
    retrain(config)
    names = {node.name for node in reading.read_graph(tmp_path / "g.pb").node}
    assert {"Placeholder", "final_retrain_ops/Wx_plus_b/add", "final_result"} <= names
    told = detection.detect_input(reading.read_graph(tmp_path / "g.pb"))
    assert (told.node, told.mean, told.std) == ("Placeholder", 0.0, 255.0)


def write_old_cache(flowers, folder, network, values):
    for image in flowers.glob("*/*.jpg"):
        file = folder / image.parent.name / f"{image.name}_{network}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(",".join(str(value) for value in values(image)))


def logits(codelab_data, size=128):
    """Return a function from a photo to the 1001 logits that the original cached for it."""
    import tensorflow as tf

    with tarfile.open(codelab_data / "models" / "mobilenet_v1_0.25_128_frozen.tgz") as archive:
        frozen = archive.extractfile("mobilenet_v1_0.25_128/frozen_graph.pb").read()
    graph_def = reading.parse_graph(frozen, name="archive")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(nodes.in_tensorflow(graph_def), name="")
    session = tf.compat.v1.Session(graph=graph)
    from retrain.data.decoding import decode

    def values(image):
        pixels = decode(image.read_bytes(), height=size, width=size)
        return session.run("MobilenetV1/Predictions/Reshape:0", {"input:0": (pixels[None] - 127.5) / 127.5})[0]

    return values


@pytest.mark.slow
def test_the_originals_cache_is_read_once_and_trains_as_well(codelab_data, flowers, tmp_path):
    write_old_cache(flowers, tmp_path / "bottlenecks", "mobilenet_0.25_128", logits(codelab_data))
    spoilt = next((tmp_path / "bottlenecks" / "roses").iterdir())
    spoilt.write_text("1,2,3")
    words = [
        "retrain", f"--image_dir={flowers}", "--architecture=mobilenet_0.25_128", f"--model_dir={codelab_data}/models",
        f"--bottleneck_dir={tmp_path}/bottlenecks", "--how_many_training_steps=100", "--testing_percentage=25",
    ]  # fmt: skip
    first, second = command(*words, cwd=tmp_path), command(*words, cwd=tmp_path)
    assert "119 features read from the original's .txt files" in first.stdout
    assert "1 of the original's .txt files" in first.stderr
    assert ": 1 computed, 119 from the cache." in first.stdout
    assert "training on those" in first.stdout
    assert "read from the original's" not in second.stdout
    assert ": all from the cache." in second.stdout
    figures = json.loads((tmp_path / "tf_files" / "retrained_graph.report.json").read_text())
    assert figures["test_accuracy"] >= 0.7
    ours = command(*words, "--bottleneck_tensor=MobilenetV1/Logits/AvgPool_1a/AvgPool", cwd=tmp_path)
    assert "hold 1001 numbers each, and this backbone gives 256: not used" in ours.stderr


def old_graph(path, build, producer=21):
    """Write a graph as one of 2016 or 2017, in operations of that time."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf)
    graph_def = editing.strip_defaults(graph.as_graph_def())
    graph_def.versions.producer = producer
    path.write_bytes(graph_def.SerializeToString())
    return path


def inception_2015(tf):
    v1 = tf.compat.v1
    contents = v1.placeholder(tf.string, [], name="DecodeJpeg/contents")
    image = tf.expand_dims(tf.cast(tf.image.decode_jpeg(contents, channels=3, name="DecodeJpeg"), tf.float32), 0)
    image = v1.image.resize_bilinear(image, [299, 299], name="ResizeBilinear") - 128.0
    image = tf.multiply(image, 0.0078125, name="Mul")
    pool = tf.nn.avg_pool2d(image, 299, 1, "VALID", name="pool_3")
    reshaped = tf.reshape(pool, [1, 3], name="pool_3/_reshape")
    taken = v1.placeholder_with_default(reshaped, [None, 3], name="input/BottleneckInputPlaceholder")
    tf.nn.softmax(tf.matmul(taken, np.eye(3, dtype=np.float32) * 9), name="final_result")


def hub_export(tf):
    image = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3], name="Placeholder")
    scaled = tf.subtract(tf.multiply(image, 2.0, name="module/hub_input/Mul"), 1.0, name="module/hub_input/Sub")
    pooled = tf.reduce_mean(scaled, [1, 2])
    tf.nn.softmax(tf.matmul(pooled, np.eye(3, dtype=np.float32) * 9), name="final_result")


def fake_quantised(tf):
    image = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3], name="image")
    image = tf.quantization.fake_quant_with_min_max_vars(image, -1.0, 1.0)
    kernel = tf.quantization.fake_quant_with_min_max_vars(np.eye(3, dtype=np.float32)[None, None] * 9, -9.0, 9.0)
    pooled = tf.reduce_mean(tf.nn.conv2d(image, kernel, 1, "SAME"), [1, 2])
    tf.nn.softmax(pooled, name="final_result")


def own_scaling(tf):
    image = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3], name="photo")
    pooled = tf.reduce_mean(tf.subtract(tf.realdiv(image, 127.5), 1.0), [1, 2])
    tf.nn.softmax(pooled * 9.0, name="final_result")


@pytest.mark.parametrize(
    ("build", "size", "source", "mean", "std"),
    [
        (inception_2015, 299, "Mul", 128.0, 128.0),
        (hub_export, 32, "Placeholder", 0.0, 255.0),
        (fake_quantised, 32, "image", 127.5, 127.5),
        (own_scaling, 32, "photo", 0.0, 1.0),
    ],
)
def test_an_old_graph_needs_no_flags(tmp_path, build, size, source, mean, std):
    graph = old_graph(tmp_path / "retrained_graph.pb", build)
    (tmp_path / "retrained_labels.txt").write_text("red\ngreen\nblue\n")
    told = model_loading.load(graph).metadata
    assert (told.input.node, told.input.height, told.input.mean, told.input.std) == (source, size, mean, std)
    for name, colour in (("red", (250, 5, 5)), ("green", (5, 250, 5)), ("blue", (5, 5, 250))):
        (result,) = prediction.label(model_loading.load(graph), [photo(tmp_path / "x.png", colour)])
        assert result.ranked[0].label == name


@pytest.mark.slow
def test_verbose_says_what_was_found_and_describe_prints_it_all(tmp_path):
    graph = old_graph(tmp_path / "retrained_graph.pb", hub_export)
    (tmp_path / "retrained_labels.txt").write_text("red\ngreen\nblue\n")
    shown = command("label_image", "--verbose", f"--graph={graph}", photo(tmp_path / "x.png", (1, 2, 3)), cwd=tmp_path)
    assert "input Placeholder, 32 x 32 px, (pixel - 0) / 255; output final_result, 3 labels" in shown.stderr
    described = command("label_image", "--describe", f"--graph={graph}", cwd=tmp_path).stdout
    for words in ("Placeholder", "32 x 32 px", "0 to 1", "final_result", "3: red, green, blue", "1 Softmax", "11"):
        assert words in described
    assert "not known: not written by retrain" in described


@pytest.mark.slow
def test_describe_names_the_flags_of_what_is_not_known(tmp_path):
    def build(tf):
        image = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3], name="x")
        tf.nn.relu(tf.reduce_mean(image, [1, 2]), name="one")
        tf.nn.softmax(tf.reduce_mean(image, [1, 2]), name="two")

    graph = old_graph(tmp_path / "g.pb", build)
    described = command("label_image", "--describe", f"--graph={graph}", cwd=tmp_path).stdout
    for flag in ("--input_height and --input_width", "--input_mean and --input_std", "--output_layer", "--labels"):
        assert f"not known; give {flag}" in described


@pytest.mark.slow
def test_an_old_graph_is_a_backbone_and_can_be_evaluated(codelab_data, flowers, trained, tmp_path):
    legacy = codelab_data / "models" / "legacy" / "retrained_graph_mobilenet_0.25_128.pb"
    report = trained(tmp_path, architecture=str(legacy))
    assert report.test_accuracy >= 0.7
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = command(
        "python", "-m", "scripts.evaluate", tmp_path / "g.pb", f"--image_dir={flowers}", "--testing_percentage=25",
        cwd=tmp_path,
    )  # fmt: skip
    assert float(done.stdout.split()[1]) == pytest.approx(report.test_accuracy, abs=1e-4)
    assert "Cross Entropy: " in done.stdout


def test_the_originals_paths_hold_when_the_original_is_called():
    from retrain.cli.flags import retrain_parser
    from retrain.config import ORIGINAL_PATHS

    given = retrain_parser(ORIGINAL_PATHS).parse_args([])
    assert str(given.output_graph) == "/tmp/output_graph.pb"
    assert str(given.bottleneck_dir) == "/tmp/bottleneck"
    assert all(str(path).startswith("tf_files/") for path in (RetrainConfig.output_graph, RetrainConfig.bottleneck_dir))


@pytest.mark.slow
def test_the_operations_of_the_inception_of_2015_run_as_backbone_and_as_graph(flowers, trained, tmp_path):

    rng = np.random.default_rng(0)

    def build(tf):
        v1 = tf.compat.v1
        contents = v1.placeholder(tf.string, [], name="DecodeJpeg/contents")
        image = tf.expand_dims(tf.cast(tf.image.decode_jpeg(contents, channels=3), tf.float32), 0)
        image = v1.image.resize_bilinear(image, [299, 299], name="ResizeBilinear")
        image = tf.multiply(image, 1 / 128, name="Mul")
        layer = tf.nn.conv2d(image, rng.normal(size=(3, 3, 3, 8)).astype(np.float32), 8, "SAME", name="conv/Conv2D")
        layer = tf.identity(layer, name="conv/batchnorm")
        check = tf.debugging.check_numerics(layer, "batch norm", name="conv/CheckNumerics")
        with tf.control_dependencies([check]):
            layer = tf.nn.relu(tf.identity(layer, name="conv/control_dependency"), name="conv")
        both = tf.raw_ops.Concat(concat_dim=3, values=[layer, -layer], name="join")
        pool = tf.nn.avg_pool2d(both, 38, 1, "VALID", name="pool_3")
        flat = tf.reshape(pool, [1, 16], name="pool_3/_reshape")
        taken = v1.placeholder_with_default(flat, [None, 16], name="input/BottleneckInputPlaceholder")
        tf.nn.softmax(tf.matmul(taken, rng.normal(size=(16, 3)).astype(np.float32)), name="final_result")

    path = old_graph(tmp_path / "retrained_graph.pb", build)
    graph_def = reading.read_graph(path)
    graph_def.versions.producer = 8
    (norm,) = [node for node in graph_def.node if node.name == "conv/batchnorm"]
    norm.op = "BatchNormWithGlobalNormalization"
    vectors = {"m": rng.normal(size=8), "v": rng.uniform(1, 2, 8), "b": rng.normal(size=8), "g": rng.uniform(1, 2, 8)}
    for name, value in vectors.items():
        graph_def.node.append(nodes.constant_node(f"conv/{name}", value.astype(np.float32)))
        norm.input.append(f"conv/{name}")
    norm.attr["variance_epsilon"].f, norm.attr["scale_after_normalization"].b = 0.001, True
    path.write_bytes(graph_def.SerializeToString())
    (tmp_path / "retrained_labels.txt").write_text("a\nb\nc\n")
    (result,) = prediction.label(model_loading.load(path), [next((flowers / "daisy").iterdir())])
    assert sum(ranked.score for ranked in result.ranked) == pytest.approx(1, abs=1e-5)
    report = trained(tmp_path, architecture=str(path), how_many_training_steps=10)
    assert report.test_count > 0
    left = nodes.count_operations(reading.read_graph(tmp_path / "g.pb"))
    assert not set(left) & {"BatchNormWithGlobalNormalization", "CheckNumerics", "Identity"}


@pytest.fixture(scope="session")
def codelab(trained, tmp_path_factory):
    """A folder as the codelab leaves it: scripts/, and a trained graph with its labels."""
    folder = tmp_path_factory.mktemp("codelab")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "tf_files").mkdir()
    trained(folder / "tf_files")
    return folder


def script(codelab, name, *words, code=0):
    return command("python", "-m", f"scripts.{name}", *words, cwd=codelab, code=code)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "measure"), [("weights_rounded", 1), ("weights", 0)])
def test_quantize_graph_shrinks_the_graph_and_prints_what_it_costs(codelab, flowers, tmp_path, mode, measure):
    done = script(
        codelab, "quantize_graph", "--input=tf_files/g.pb", f"--output={tmp_path}/r.pb", f"--mode={mode}",
        "--output_node_names=final_result", f"--image_dir={flowers}",
    )  # fmt: skip
    before, after, cost = done.stdout.splitlines()
    sizes = [int(line.split(": ")[1].split(", ")[measure].split()[0].replace(",", "")) for line in (before, after)]
    assert sizes[1] < sizes[0] / 2
    lost = float(cost.split("after: ")[1].split("%")[0])
    assert cost.startswith("Test accuracy ")
    assert lost <= 10
    assert model_loading.load(tmp_path / "r.pb").metadata.test_accuracy is None
