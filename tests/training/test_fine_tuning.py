"""Fine-tuning: splitting changes nothing, upper layers learn, a killed run resumes, and devices share the work."""

import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import exported_head
from conftest import colour_folder, command

from retrain import head
from retrain.backbones import devices
from retrain.config import RetrainConfig
from retrain.data.split import Split
from retrain.errors import ExportError, TrainingError, UsageError
from retrain.evaluation import folder
from retrain.graphs import nodes, reading
from retrain.inference import loading
from retrain.pipeline import retrain
from retrain.stopping import Stopping
from retrain.terminal import Terminal
from retrain.training import inputs, trainable_layers
from retrain.training.checkpoints import TrainingCheckpoint
from retrain.training.epochs import EpochBatches
from retrain.training.joint_training import Batch, FineTuningData, JointTraining
from retrain.training.recipe import LARGEST_FINE_TUNING_RATE, FineTuningPlan, HeadRecipe, fine_tuning_defaults

SIZE = 16


def small_network(seed=0):
    """A residual network of a few layers with batch normalisation, small enough to train in a test."""
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(image)
    x = keras.layers.Conv2D(8, 3, 2, "same", name="stem")(x)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    y = keras.layers.Conv2D(8, 3, padding="same", name="block1_conv1")(x)
    y = keras.layers.ReLU(name="block1_relu")(y)
    y = keras.layers.Conv2D(8, 3, padding="same", name="block1_conv2")(y)
    x = keras.layers.Add(name="block1_add")([x, y])
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x))


def below(model, layers, pixels):
    output = trainable_layers.frozen_part(model, layers)(pixels, training=False)
    parts = output if isinstance(output, list) else [output]
    return np.concatenate([np.asarray(part).reshape(len(pixels), -1) for part in parts], axis=1)


def pictures(count, seed=0):
    """Stripes that lie or stand: their mean colour tells nothing, their direction all."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    stripes = np.where(np.arange(SIZE) // 2 % 2, 200.0, 50.0)
    images = np.stack([np.broadcast_to(stripes[:, None] if label else stripes, (SIZE, SIZE)) for label in labels])
    return (images[..., None] + rng.normal(size=(count, SIZE, SIZE, 3)) * 30).astype(np.float32), labels


@pytest.mark.parametrize("start", ["1", "3", "stem", "block1", "block1_conv2", "block1_add", "scale", "all"])
def test_the_two_parts_of_a_network_do_what_the_whole_does(start):
    model = small_network()
    layers = trainable_layers.split_network(model, start)
    images, _ = pictures(4)
    whole = np.asarray(model(images, training=False))
    assert np.asarray(layers.bottlenecks(below(model, layers, images))) == pytest.approx(whole, abs=1e-5)


def test_a_residual_connection_over_the_cut_is_taken_along():
    layers = trainable_layers.split_network(small_network(), "block1_conv2")
    assert sorted(layers.shapes) == [(8, 8, 8), (8, 8, 8)]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("blok1", "Similar ones: block1"),
        ("Conv2", r"Similar ones: block1_conv2\. --list_layers lists them; all is the whole network"),
        ("block1/con", "Similar ones: block1_conv1, block1_conv2"),
        ("0", "layers"),
        ("99", "layers"),
    ],
)
def test_a_layer_that_is_not_there_is_said_with_similar_ones(start, words):
    with pytest.raises(UsageError, match=words):
        trainable_layers.split_network(small_network(), start)


def test_layers_are_listed_from_the_top_with_their_sizes():
    lines = trainable_layers.list_layers(small_network())
    assert len(lines) == 2 + 11
    assert lines[0].endswith("or all for the whole network.")
    assert lines[-1].split() == ["1", "pool", "GlobalAveragePooling2D", "8", "0"]
    assert "584" in next(line for line in lines if "block1_conv1" in line)


def tuning(*, steps=60, patience=None, distribution="none", start="block1", rate=0.01, folder=Path(), **recipe):
    """Return a fine-tuning of the small network on stripes, and what its `run` takes."""
    strategy = devices.strategy(distribution)
    plan = FineTuningPlan(
        start=start, recipe=HeadRecipe(learning_rate=rate, **recipe), steps=steps, batch_size=16,
        steps_per_evaluation=10, seed=0, patience=patience, checkpoint=folder / "c.npz", strategy=strategy,
    )  # fmt: skip
    with strategy.scope():
        model = small_network()
        layers = trainable_layers.split_network(model, start)
        scale = head.Standardisation(np.zeros(8, np.float32), np.ones(8, np.float32))
        zeros = head.linear(np.zeros((8, 2), np.float32), np.zeros(2, np.float32))
        training = JointTraining(inputs.on_stored(layers), zeros, scale, plan, warn=WARNED.append)
    images, labels = pictures(80)
    flat = below(model, layers, images)
    batches = EpochBatches(60, 16, 1)
    data = FineTuningData(
        lambda step: Batch([flat[batches(step)]], labels[batches(step)]), lambda rows: flat[60 + rows], labels[60:]
    )
    return training, data, TrainingCheckpoint(plan.checkpoint, "me", WARNED.append)


WARNED: list[str] = []


def weights(made):
    return [variable.numpy() for variable in made._trained]


def ignore(row):
    """Report an evaluation to nobody."""


def test_the_upper_layers_learn_what_the_head_alone_cannot(tmp_path):
    made, data, checkpoint = tuning(folder=tmp_path)
    rows = []
    history = made.run(data, checkpoint, rows.append)
    assert rows == history.evaluations
    assert rows[0].step == -1
    assert rows[0].validation_accuracy <= 0.6
    assert history.best.validation_accuracy >= 0.95
    assert [row.step for row in rows[1:]] == [9, 19, 29, 39, 49, 59]
    assert checkpoint.path.exists()


def test_batch_normalisation_and_frozen_layers_stay_as_they_are(tmp_path):
    made, data, checkpoint = tuning(steps=5, start="stem", folder=tmp_path)
    layers = made._layers.bottlenecks.__self__
    before = {w.path: w.numpy() for w in layers.model.weights}
    made.run(data, checkpoint, ignore)
    changed = {w.path for w in layers.model.weights if (w.numpy() != before[w.path]).any()}
    assert any("stem" in path for path in changed)
    assert not any("moving" in path for path in changed)
    assert not any("stem" in w.path for w in trainable_layers.split_network(small_network(), "block1").model.weights)


def test_what_regularises_the_last_layer_does_so_in_fine_tuning_too(tmp_path):
    sizes = {}
    for name, recipe in {"plain": {}, "l2": {"l2": 10.0}, "smoothed": {"label_smoothing": 0.6}}.items():
        made, data, checkpoint = tuning(steps=30, folder=tmp_path / name, **recipe)
        checkpoint.path.parent.mkdir()
        made.run(data, checkpoint, ignore)
        sizes[name] = np.abs(made.head().last.weights).sum()
    assert sizes["l2"] < sizes["plain"] / 2
    assert sizes["smoothed"] < sizes["plain"]
    made, data, _ = tuning(dropout=0.9)
    batch = data.batch(0)
    made._head[0].assign(np.eye(8, 2, dtype=np.float32))
    one, again, other = (made._accumulator.add_up(batch, [0, step])[1] for step in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)  # other inputs of the last layer are dropped at each step


class KilledError(Exception):
    pass


def killed(folder):
    """Run a fine-tuning that is killed after some steps, and return the path of its checkpoint."""
    made, data, checkpoint = tuning(folder=folder)

    def batch(step):
        if step > 35:
            raise KilledError
        return data.batch(step)

    with pytest.raises(KilledError):
        made.run(replace(data, batch=batch), checkpoint, ignore)
    return checkpoint.path


@pytest.mark.slow
def test_a_killed_run_resumes_where_it_was(tmp_path):
    (tmp_path / "whole").mkdir()
    whole, data, checkpoint = tuning(folder=tmp_path / "whole")
    expected = whole.run(data, checkpoint, ignore)
    assert killed(tmp_path).exists()
    again, data, checkpoint = tuning(folder=tmp_path)
    rows = []
    WARNED.clear()
    history = again.run(data, checkpoint, rows.append)
    assert len(WARNED) == 1
    assert "goes on after step" in WARNED[0]
    assert [row.step for row in rows] == [-1, 9, 19, 29, 39, 49, 59]
    assert history.best == expected.best
    for one, other in zip(weights(again), weights(whole), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_checkpoint_keeps_its_keys_and_five_figures_an_evaluation(tmp_path):
    """A run that an older version began resumes."""
    with np.load(killed(tmp_path), allow_pickle=False) as file:
        assert {name.rstrip("0123456789") for name in file.files} == {
            "identity", "done", "history", "best_", "now_", "rule_",
        }  # fmt: skip
        assert file["history"].shape == (int(file["done"]) // 10 + 1, 5)
        assert file["history"][:, 0].tolist() == [-1, *range(9, int(file["done"]), 10)]


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_or_foreign_checkpoint_costs_nothing(tmp_path, content):
    made, data, checkpoint = tuning(steps=10, folder=tmp_path)
    if content is None:
        np.savez(checkpoint.path, identity=np.array("somebody else"))
    else:
        checkpoint.path.write_bytes(content)
    assert [row.step for row in made.run(data, checkpoint, ignore).evaluations] == [-1, 9]


def test_a_checkpoint_for_which_the_disk_has_no_room_is_one_line(tmp_path):
    made, data, checkpoint = tuning(steps=10, folder=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # a full disk, as far as a process can tell
    try:
        with pytest.raises(ExportError, match=r"cannot write .*c\.npz: File too large"):
            made.run(data, checkpoint, ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_small_networks_learn_longer_and_faster():
    small, large = fine_tuning_defaults(210_336), fine_tuning_defaults(3_413_024)
    assert small.epochs > large.epochs
    assert large.learning_rate < small.learning_rate < LARGEST_FINE_TUNING_RATE


def test_a_training_ends_when_it_is_asked_to_and_goes_on_from_there(tmp_path):
    made, data, checkpoint = tuning(folder=tmp_path)
    stopping = Stopping()

    def batch(step):
        if step == 24:  # prepared while the step before it runs
            stopping.asked.set()
        return data.batch(step)

    stopped = made.run(replace(data, batch=batch), checkpoint, ignore, stopping)
    assert [row.step for row in stopped.evaluations[:-1]] == [-1, 9, 19]
    assert stopped.evaluations[-1].step in (22, 23)
    again, data, checkpoint = tuning(folder=tmp_path)
    history = again.run(data, checkpoint, ignore)
    assert history.evaluations[-1].step == 59


def test_a_training_with_a_deadline_goes_on_until_then(tmp_path):
    made, data, checkpoint = tuning(steps=1, folder=tmp_path)
    history = made.run(data, checkpoint, ignore, Stopping(deadline=time.monotonic() + 3))
    assert history.evaluations[-1].step > 1
    assert made._optimizer.learning_rate.numpy() < 0.01


def test_weights_that_are_not_better_are_not_kept(tmp_path):
    made, data, checkpoint = tuning(folder=tmp_path)
    made.run(data, checkpoint, ignore)
    before = weights(made)
    checkpoint.path.unlink()
    worse, data, checkpoint = tuning(steps=20, folder=tmp_path)
    for variable, value in zip(worse._trained, before, strict=True):
        variable.assign(value)

    def mislabelled(step):
        batch = data.batch(step)
        return replace(batch, labels=1 - batch.labels)

    history = worse.run(replace(data, batch=mislabelled), checkpoint, ignore)
    assert history.best is history.evaluations[0]
    assert all(np.array_equal(a, b) for a, b in zip(weights(worse), before, strict=True))


@pytest.mark.slow
def test_patience_ends_a_fine_tuning_that_gains_nothing_more(tmp_path):
    # No step changes anything: the head's own evaluation stays the best.
    made, data, checkpoint = tuning(steps=400, patience=2, rate=1e-30, folder=tmp_path)
    history = made.run(data, checkpoint, ignore)
    assert [row.step for row in history.evaluations] == [-1, 9, 19]


def test_a_diverging_fine_tuning_says_which_flag_to_change(tmp_path):
    made, data, checkpoint = tuning(steps=20, rate=1e30, folder=tmp_path)
    with pytest.raises(TrainingError, match="NaN or infinite. Try a smaller --fine_tune_learning_rate"):
        made.run(data, checkpoint, ignore)


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(tmp_path):
    import tensorflow as tf

    whole, data, checkpoint = tuning(steps=10, folder=tmp_path)
    whole.run(data, checkpoint, ignore)
    checkpoint.path.unlink()
    made, data, checkpoint = tuning(steps=10, folder=tmp_path)
    real = made._accumulator._gradients

    def small(batch, count, seed):
        if len(batch[0]) > 4:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return real(batch, count, seed)

    made._accumulator._gradients = small
    WARNED.clear()
    made.run(data, checkpoint, ignore)
    assert WARNED == [
        "A batch of 16 images does not fit into the memory: taking 8 at a time.",
        "A batch of 16 images does not fit into the memory: taking 4 at a time.",
    ]
    for one, other in zip(weights(made), weights(whole), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


TWO_DEVICES = """
import sys; sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
import numpy as np, tensorflow as tf
from pathlib import Path
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from training.test_fine_tuning import ignore, tuning, weights
from retrain.backbones import devices
from retrain.backbones.loading import Backbone
from retrain.backbones.runner import TensorFlowRunner
from retrain.preprocessing import InputSpec
found = {{}}
for distribution, replicas in (("none", 1), ("mirrored", 2)):
    made, data, checkpoint = tuning(steps=25, distribution=distribution, folder=Path({folder!r}))
    assert made._plan.strategy.num_replicas_in_sync == replicas
    made.run(data, checkpoint, ignore)
    found[distribution] = weights(made)
for one, two in zip(*found.values(), strict=True):
    np.testing.assert_allclose(one, two, atol=2e-5)
spec = InputSpec("Placeholder", 16, 16, 0.0, 255.0)
backbone = Backbone("mean", Path({graph!r}), spec, "mean_colour", 3)
run = [TensorFlowRunner(backbone, distribution=distribution) for distribution in found]
pixels = np.random.default_rng(0).integers(0, 255, (7, 16, 16, 3)).astype(np.uint8)
np.testing.assert_allclose(run[0](pixels), run[1](pixels), atol=1e-6)
print("the same")
"""


@pytest.mark.slow
def test_two_devices_give_what_one_gives(tmp_path, mean_colour_backbone):
    code = TWO_DEVICES.format(
        tests=str(Path(__file__).parents[1]), folder=str(tmp_path), graph=str(mean_colour_backbone)
    )
    assert "the same" in command("python", "-c", code, cwd=tmp_path).stdout


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A saved network, and photos of stripes that it must be tuned to tell apart."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("stripes")
    small_network().save(folder / "network.keras")
    images, labels = pictures(160)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "photos" / ("standing", "lying")[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    return folder


def words(stripes, folder, *more):
    return [
        "retrain", f"--image_dir={stripes}/photos", f"--architecture={stripes}/network.keras",
        "--how_many_training_steps=30", "--eval_step_interval=20", "--fine_tune_from=block1",
        "--fine_tune_steps=60", "--fine_tune_learning_rate=0.01", "--fine_tune_batch_size=16",
        f"--bottleneck_dir={folder}/b", *more,
    ]  # fmt: skip


def report(folder):
    return json.loads((folder / "tf_files" / "retrained_graph.report.json").read_text())


@pytest.mark.slow
def test_a_fine_tuned_network_is_exported_whole_and_a_second_run_computes_nothing(stripes, tmp_path):
    done = command(*words(stripes, tmp_path), cwd=tmp_path)
    assert "Fine-tuning took the validation accuracy from" in done.stdout
    assert report(tmp_path)["test_accuracy"] >= 0.9
    again = command(*words(stripes, tmp_path), cwd=tmp_path)
    assert ": all from the cache." in again.stdout
    assert "Frozen layers" in done.stderr
    assert "Frozen layers" not in again.stderr
    picture = next((stripes / "photos" / "lying").iterdir())
    for graph in ("retrained_graph.pb", "retrained_graph.tflite"):
        shown = command("label_image", f"--graph=tf_files/{graph}", picture, cwd=tmp_path).stdout
        assert shown.splitlines()[3].startswith("lying")
    left = {path.name for path in (tmp_path / "b").glob("*/*") if path.is_dir()}
    assert left == {"below_block1_conv1"}


def here(stripes, folder, **settings):
    """Fine-tune in this process, and return the report and what was printed."""
    config = RetrainConfig(
        image_dir=stripes / "photos", architecture=str(stripes / "network.keras"), how_many_training_steps=30,
        fine_tune_from="block1", fine_tune_steps=60, fine_tune_learning_rate=0.01, fine_tune_batch_size=16,
        output_graph=folder / "g.pb", output_labels=folder / "l.txt", summaries_dir=folder / "s",
        bottleneck_dir=folder / "b", checkpoint_path=folder / "c",
    )  # fmt: skip
    shown = io.StringIO()
    return retrain(replace(config, **settings), Terminal(out=shown, err=shown)), shown.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("copies", [2, 0])
def test_distorted_photos_are_tuned_on(stripes, tmp_path, copies):
    found, shown = here(stripes, tmp_path, random_brightness=20, distortion_copies=copies)
    assert "Fine-tuning took the validation accuracy from" in shown
    assert found.test_accuracy >= 0.9


@pytest.mark.slow
def test_photos_keep_their_aspect_ratio_in_all_of_it(stripes, tmp_path):
    """What the exported file gives for letterboxed photos is what was measured on the fine-tuned features."""
    from PIL import Image

    shutil.copy(stripes / "network.keras", tmp_path)
    for path in (stripes / "photos").rglob("*.png"):
        wide = tmp_path / path.relative_to(stripes)
        wide.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((SIZE, SIZE // 2)).save(wide)
    found, shown = here(tmp_path, tmp_path, keep_aspect_ratio="letterbox")
    assert "whose weights are kept" in shown
    model = loading.load(tmp_path / "g.pb")
    assert model.metadata.input.keep_aspect_ratio == "letterbox"
    measured = folder.evaluate(model, tmp_path / "photos").figures
    assert measured.cross_entropy == pytest.approx(found.test_cross_entropy, abs=1e-3)
    validated = folder.evaluate(model, tmp_path / "photos", split=Split.VALIDATION).figures.cross_entropy
    shown_meanwhile = [row.validation_cross_entropy for row in found.measured]
    assert min(abs(value - validated) for value in shown_meanwhile) < 1e-3  # the photos that tuned it went in so, too
    squashing = folder.evaluate(with_squashed_photos(model), tmp_path / "photos").figures
    assert abs(squashing.cross_entropy - found.test_cross_entropy) > 0.01


def with_squashed_photos(model):
    told = model.metadata
    model.metadata = replace(told, input=replace(told.input, keep_aspect_ratio=None))
    return model


@pytest.mark.slow
def test_a_whole_network_is_tuned_on_photos_that_are_decoded_once_and_not_stored(stripes, tmp_path):
    found, shown = here(stripes, tmp_path, fine_tune_from="all")
    assert "from layer all on" in shown
    assert "on augmented photos" in shown
    assert "--fine_tune_learning_rate 0.01 suits plain gradient descent" in shown
    assert "Decoding: 149/149" in shown
    assert "Frozen layers" not in shown
    assert found.test_accuracy >= 0.9
    assert not [path for path in (tmp_path / "b").glob("*/*") if path.is_dir()]


@pytest.mark.slow
def test_by_default_the_rate_and_the_steps_follow_from_the_network_and_the_photos(stripes, tmp_path):
    found, shown = here(stripes, tmp_path, fine_tune_learning_rate=None, fine_tune_steps=None)
    assert "160 steps of 16 at up to 0.0005, on 512 numbers" in shown  # 20 epochs of 136 photos
    assert "suits plain gradient descent" not in shown
    assert found.settings["fine_tune_steps"] == 160
    assert found.settings["fine_tune_learning_rate"] == 0.0005
    assert [row.step for row in found.measured[-3:]] == [173, 181, 189]


@pytest.mark.slow
def test_the_first_evaluation_is_hardly_worse_than_that_of_the_head(data, tmp_path):
    """The warm-up keeps what a real network has learnt."""
    config = RetrainConfig(
        image_dir=data / "datasets" / "cifar10_1200", architecture="mobilenet_bundled", image_size=64,
        how_many_training_steps=500, validation_percentage=40, fine_tune_from="all", fine_tune_steps=40,
        output_graph=tmp_path / "g.pb", output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s",
        bottleneck_dir=tmp_path / "b", checkpoint_path=tmp_path / "c",
    )  # fmt: skip
    before, first = [row for row in retrain(config).measured if row.validation_count > 300][:2]
    assert (before.step, first.step) == (499, 501)
    assert first.validation_accuracy >= before.validation_accuracy - 0.02


@pytest.mark.slow
def test_a_fine_tuning_that_makes_it_worse_is_not_exported(stripes, tmp_path):
    plain, _ = here(stripes, tmp_path, fine_tune_from=None)
    before = (tmp_path / "g.pb").read_bytes()
    found, shown = here(stripes, tmp_path, fine_tune_learning_rate=1e-30)
    assert "did not improve the validation accuracy" in shown
    assert "exported without it" in shown
    assert (tmp_path / "g.pb").read_bytes() == before
    assert found.test_accuracy == plain.test_accuracy


@pytest.mark.slow
def test_a_fine_tuned_graph_is_as_small_and_made_of_the_same_operations(stripes, tmp_path):
    here(stripes, tmp_path, fine_tune_from=None)
    before = nodes.count_operations(reading.read_graph(tmp_path / "g.pb"))
    size = (tmp_path / "g.pb").stat().st_size
    here(stripes, tmp_path)
    assert nodes.count_operations(reading.read_graph(tmp_path / "g.pb")) == before
    assert (tmp_path / "g.pb").stat().st_size == pytest.approx(size, rel=0.01)


@pytest.mark.slow
def test_a_sweep_compares_fine_tuned_networks(stripes, tmp_path):
    shown = io.StringIO()
    config = RetrainConfig(
        image_dir=stripes / "photos", architecture=str(stripes / "network.keras"), how_many_training_steps=20,
        fine_tune_from="block1", fine_tune_steps=40, fine_tune_learning_rate=0.01, fine_tune_batch_size=16,
        output_graph=tmp_path / "g.pb", output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s",
        bottleneck_dir=tmp_path / "b", checkpoint_path=tmp_path / "c",
    )  # fmt: skip
    found = retrain(config, Terminal(out=shown, err=shown), choices={"random_seed": (0, 1)})
    assert "SEED_1" in shown.getvalue()
    assert found.test_accuracy >= 0.9


@pytest.mark.slow
def test_a_sweep_that_fails_at_the_end_fine_tunes_nothing_again(stripes, tmp_path):
    """Each candidate has a checkpoint of its own, which stays until the results are written."""
    choices, blocked = {"random_seed": (0, 1)}, tmp_path / "l.txt" / "file"
    config = RetrainConfig(
        image_dir=stripes / "photos", architecture=str(stripes / "network.keras"), how_many_training_steps=20,
        fine_tune_from="block1", fine_tune_steps=40, fine_tune_learning_rate=0.01, fine_tune_batch_size=16,
        output_graph=tmp_path / "g.pb", output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s",
        bottleneck_dir=tmp_path / "b", checkpoint_path=tmp_path / "c" / "head",
    )  # fmt: skip
    retrain(config, choices=choices)
    assert not list((tmp_path / "c").glob("*.npz"))
    (tmp_path / "l.txt").unlink()

    class Blocking(Terminal):
        def say(self, text):
            super().say(text)
            if text.startswith("run "):  # the table: everything is trained
                blocked.parent.mkdir()
                blocked.touch()

    shown = io.StringIO()
    with pytest.raises(ExportError):
        retrain(config, Blocking(out=shown, err=shown), choices=choices)
    assert len(list((tmp_path / "c").glob("*.npz"))) == 2
    weights = exported_head(tmp_path / "g.pb", "final_training_ops/weights/final_weights")
    blocked.unlink()
    blocked.parent.rmdir()
    retrain(config, Terminal(out=shown, err=shown), choices=choices)
    assert shown.getvalue().count("goes on after step 39") == 2
    assert np.array_equal(exported_head(tmp_path / "g.pb", "final_training_ops/weights/final_weights"), weights)
    assert not list((tmp_path / "c").glob("*.npz"))


@pytest.mark.slow
def test_the_checkpoint_of_a_fine_tuned_network_is_its_new_head(stripes, tmp_path):
    import tensorflow as tf

    found, _ = here(stripes, tmp_path)
    kept, weights = tf.train.load_checkpoint(str(tmp_path / "c")), "final_training_ops/weights/final_weights"
    assert np.array_equal(kept.get_tensor(weights), exported_head(tmp_path / "g.pb", weights))
    assert 30 < kept.get_tensor("global_step") <= 90
    assert found.settings["fine_tune_steps"] == 60


@pytest.mark.slow
def test_a_network_that_cannot_be_tuned_is_said_in_one_line_before_the_work(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=4)
    done = command(
        "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        "--fine_tune_from=all", cwd=tmp_path, code=1,
    )  # fmt: skip
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith(
        "retrain: mean_colour.pb cannot be fine-tuned: none of its operations is a layer with weights"
    )
    assert "Features for" not in done.stdout


@pytest.mark.slow
def test_a_layer_that_is_not_there_is_said_before_the_work(tmp_path):
    colour_folder(tmp_path / "photos", per_class=2)
    done = command("retrain", "--image_dir=photos", "--fine_tune_from=block6e", cwd=tmp_path, code=2)
    assert "Similar ones: block6" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "tf_files" / "bottlenecks").exists()


@pytest.mark.slow
def test_the_layers_of_the_default_network_are_listed(tmp_path):
    done = command("retrain", "--list_layers", cwd=tmp_path)
    assert "block6d_project_conv" in done.stdout
    assert done.stderr == ""


def free_ports(count):
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in opened]
    for server in opened:
        server.close()
    return ports


@pytest.mark.slow
def test_two_workers_give_what_one_gives(stripes, tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    running = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        running.append(
            subprocess.Popen(
                [Path(sys.executable).with_name("retrain"), *words(stripes, folder, "--distribution=multi_worker")[1:]],
                cwd=folder,
                env={**os.environ, "TF_CONFIG": json.dumps(task)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        )
    outputs = [worker.communicate(timeout=300) for worker in running]
    assert [worker.returncode for worker in running] == [0, 0], outputs
    assert "written by the worker that is chief" in outputs[1][0]
    assert not (tmp_path / "1" / "tf_files" / "retrained_graph.pb").exists()
    assert (tmp_path / "0" / "tf_files" / "checkpoints" / "head.npz").exists()
    assert not list((tmp_path / "1" / "tf_files" / "checkpoints").glob("head.*"))
    alone = tmp_path / "alone"
    alone.mkdir()
    command(*words(stripes, alone), cwd=alone)
    assert report(tmp_path / "0")["test_accuracy"] == report(alone)["test_accuracy"]
    measured = [[row["validation_cross_entropy"] for row in report(f)["measured"]] for f in (tmp_path / "0", alone)]
    assert measured[0] == pytest.approx(measured[1], abs=1e-3)


def test_multi_worker_without_its_variable_is_bad_usage(stripes, tmp_path):
    done = command(*words(stripes, tmp_path, "--distribution=multi_worker"), cwd=tmp_path, code=2)
    assert "TF_CONFIG" in done.stderr
