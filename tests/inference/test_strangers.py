"""A model of a stranger's is tried once, and a known one is not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import command, photo, write_graph

from retrain.errors import GraphError
from retrain.graphs import reading
from retrain.inference import description
from retrain.inference import loading as model_loading
from retrain.metadata import Metadata
from retrain.preprocessing import InputSpec
from retrain.trust import judging, process

RANGE = Metadata(input=InputSpec(mean=0.0, std=255.0))


@pytest.fixture(autouse=True)
def stranger(tmp_path, monkeypatch):
    """Nothing is known, and models are not trusted."""
    monkeypatch.delenv(judging.TRUST, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")


@pytest.fixture
def no_process(monkeypatch):
    """No process can be started, so that whatever is tried is refused."""
    monkeypatch.setattr("sys.executable", "")


def load(path):
    return model_loading.load(path, labels=path.with_name("labels.txt"), overrides=RANGE)


@pytest.mark.slow
def test_a_model_is_tried_once_for_each_content(both, monkeypatch):
    graph = both
    load(graph)
    monkeypatch.setattr("sys.executable", "")
    load(graph)(np.zeros((1, 16, 16, 3), np.uint8))
    shutil.copy(graph.with_suffix(".tflite"), graph.with_name("other.tflite"))
    load(graph.with_name("other.tflite"))
    changed = graph.with_name("changed.tflite")
    changed.write_bytes(graph.with_suffix(".tflite").read_bytes() + b"\0")
    with pytest.raises(GraphError, match=r"changed\.tflite cannot be tried in a process of its own [^\n]+=1 if you"):
        load(changed)


def test_what_we_wrote_and_ran_is_known(graph, no_process):
    with pytest.raises(GraphError, match="cannot be tried"):
        model_loading.load(graph)
    judging.accept(graph)
    model_loading.load(graph)
    description.describe_model(graph)
    reading.read_judged(graph)


@pytest.mark.slow
def test_what_a_training_exported_is_known_to_later_commands(tmp_path, colour_images):
    env = {judging.TRUST: "0"}
    command(
        "retrain", "--image_dir", colour_images, "--architecture", "mobilenet_bundled", "--image_size", "64",
        "--how_many_training_steps", "5", "--export", "saved_model,tflite_int8", "--saved_model_dir", "sm",
        cwd=tmp_path, env=env,
    )  # fmt: skip
    judged = tmp_path / "cache" / "retrain" / "judged"
    files = set(judged.iterdir())
    assert len(files) == 5
    picture = photo(tmp_path / "x.png", (1, 2, 3))
    graph = Path("tf_files") / "retrained_graph.pb"
    endings = ("_saved_model", ".tflite", "_int8.tflite", ".pb")
    for model in ("sm", *(str(graph).removesuffix(".pb") + ending for ending in endings)):
        command("label_image", "--graph", model, picture, cwd=tmp_path, env=env)
    assert set(judged.iterdir()) == files


def test_whoever_trusts_all_models_has_none_tried(graph, no_process, monkeypatch):
    monkeypatch.setenv(judging.TRUST, "1")
    model_loading.load(graph)


def test_other_nodes_are_another_trial(graph, no_process):
    judging.accept(graph)
    with pytest.raises(GraphError, match="cannot be tried"):
        model_loading.load(graph, overrides=Metadata(output="mean_colour"))


@pytest.mark.slow
def test_a_tensor_whose_size_is_computed_is_stopped(tmp_path, monkeypatch):
    def build(tf, image):
        many = tf.cast(tf.reduce_max(image) * 0 + 2e9, tf.int32)
        largest = tf.reduce_max(tf.fill([1, many], 1.5))
        tf.nn.softmax(tf.reduce_mean(image, [1, 2]) * largest, name="final_result")

    graph = write_graph(tmp_path / "g.pb", build)
    refused = r"g\.pb is refused: it takes more than 1\.9 GB of memory\. [^\n]+$"
    with pytest.raises(GraphError, match=refused):
        load(graph)
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(GraphError, match=refused):  # it is known now
        load(graph)


@pytest.mark.slow
def test_an_endless_loop_in_a_saved_model_is_stopped(tmp_path, monkeypatch):
    import tensorflow as tf

    def endless(images):
        turns = tf.while_loop(lambda i: i > 0, lambda i: [i * 1.0], [1.0 + 0 * tf.reduce_max(images)])[0]
        return {"scores": tf.nn.softmax(tf.reduce_mean(images, [1, 2]) * turns)}

    function = tf.function(endless, input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, "images")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=function)
    monkeypatch.setattr(process, "_SECONDS", 8.0)
    monkeypatch.setattr(process, "_LEAST", 4.0)
    with pytest.raises(GraphError, match=r"m is refused: it takes more than [^\n]+$"):
        load(tmp_path / "m")
