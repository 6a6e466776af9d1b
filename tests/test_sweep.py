"""Several values are all tried, compared on one chart, and the best on the validation images is exported."""

import json
import re

import numpy as np
import pytest
from builders import exported_head, terminal
from conftest import COLOURS, colour_folder, command

from retrain import sweep
from retrain.config import RetrainConfig
from retrain.errors import TrainingError, UsageError
from retrain.evaluation.metrics import Interval
from retrain.pipeline import retrain
from retrain.sweep import TrialResult


def test_every_combination_is_named_after_what_differs():
    names = [t.name for t in sweep.trials({"learning_rate": (0.005, 1.0), "hidden_units": ((), (512, 256))})]
    assert names == ["LR_0.005_HIDDEN_0", "LR_0.005_HIDDEN_512-256", "LR_1.0_HIDDEN_0", "LR_1.0_HIDDEN_512-256"]
    assert [t.name for t in sweep.trials({"architecture": ("keras:VGG19", "a/b.pb")})] == ["keras_VGG19", "a_b.pb"]
    assert [(t.name, t.values) for t in sweep.trials({})] == [("", {})]


def test_no_two_trials_share_a_name_and_none_is_tried_twice():
    choices = {"architecture": ("a/b.pb", "a_b.pb"), "hidden_units": ((), (), (8,))}
    found = sweep.trials(choices)
    assert len(found) == len({trial.name for trial in found}) == 4


def test_trials_rank_by_accuracy_then_by_cross_entropy():
    results = [
        TrialResult(name, accuracy, loss, Interval(0, 1), 1.0, 10**6)
        for name, accuracy, loss in (("a", 0.5, 0.1), ("b", 0.9, 0.5), ("c", 0.9, 0.4), ("d", 0.9, 0.4))
    ]
    assert sweep.ranking(results) == [2, 3, 1, 0]
    assert [line.split()[0] for line in sweep.table(results)] == ["run", "c", "d", "b", "a"]


def test_trials_that_failed_are_last():
    trial = sweep.Trial("LR_1e+38", {})
    probabilities = np.array([[np.nan, np.nan]], np.float32)
    failed = sweep.result_of(trial, probabilities, np.array([0]), seconds=1, size=1)
    assert failed.failed
    results = [failed, TrialResult("a", 0, 9.0, Interval(0, 1), 1.0, 10**6), sweep.failed_result(trial)]
    assert sweep.ranking(results) == [1, 0, 2]
    assert sweep.table(results)[-1].split() == ["LR_1e+38", "failed"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, mean_colour_backbone):
    folder = tmp_path_factory.mktemp("sweep")
    colour_folder(folder / "photos")
    done = command(
        "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        "--how_many_training_steps=30", "--learning_rate=1e-7,0.5", "--optimizer=sgd,adam", cwd=folder,
    )  # fmt: skip
    return folder, done


@pytest.mark.slow
def test_a_sweep_prints_a_table_and_exports_the_best(swept):
    folder, done = swept
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("run "))
    table = [line.split()[0] for line in lines[start + 1 : start + 5]]
    assert set(table) == {"LR_1e-07_sgd", "LR_1e-07_adam", "LR_0.5_sgd", "LR_0.5_adam"}
    report = json.loads((folder / "tf_files" / "retrained_graph.report.json").read_text())
    assert f"{report['learning_rate']:g}" in table[0]
    assert report["test_accuracy"] == 1.0
    assert done.stdout.count("Final test accuracy") == 1
    assert done.stdout.count("Features for ") == 1
    page = (folder / "tf_files" / "retrained_graph.report.html").read_text()
    assert re.findall(r'<th scope="row">(LR_[^<]*?)(?: <small>kept</small>)?</th>', page) == table
    assert f"{table[0]} <small>kept</small>" in page
    assert "--learning_rate=1e-7,0.5" in page  # the command to run it again
    assert (folder / "tf_files" / "retrained_labels.txt").read_text().split() == sorted(COLOURS)


@pytest.mark.slow
def test_tensorboard_shows_every_run_and_what_they_differ_by(swept):
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    folder, _ = swept
    runs = EventMultiplexer().AddRunsFromDirectory(str(folder / "tf_files" / "training_summaries"))
    runs.Reload()
    assert {"LR_0.5_sgd/train", "LR_0.5_sgd/validation", "LR_1e-07_adam/train"} <= set(runs.Runs())
    shown = {run: list(content) for run, content in runs.PluginRunToTagToContent(metadata.PLUGIN_NAME).items()}
    assert shown["."] == [metadata.EXPERIMENT_TAG]
    content = runs.PluginRunToTagToContent(metadata.PLUGIN_NAME)["LR_0.5_adam"][metadata.SESSION_START_INFO_TAG]
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    assert (values["learning_rate"].number_value, values["optimizer"].string_value) == (0.5, "adam")


@pytest.mark.slow
def test_architectures_compete_on_the_same_split(tmp_path, codelab_data):
    colour_folder(tmp_path / "photos", per_class=12)
    done = command(
        "retrain", "--image_dir=photos", "--architecture=mobilenet_bundled,mobilenet_0.25_128", "--hidden_units", "0,8",
        f"--model_dir={codelab_data}/models", "--how_many_training_steps=20", cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.count("Features for ") == 2
    assert "mobilenet_0.25_128_HIDDEN_8 " in done.stdout


def here(backbone, folder, choices, **settings):
    """Sweep in this process, and return the report and what was printed."""
    colour_folder(folder / "photos")
    config = RetrainConfig(
        image_dir=folder / "photos", architecture=str(backbone), bottleneck_tensor="mean_colour",
        how_many_training_steps=30, output_graph=folder / "g.pb", output_labels=folder / "l.txt",
        summaries_dir=folder / "s", bottleneck_dir=folder / "b", checkpoint_path=folder / "c" / "head",
        intermediate_output_graphs_dir=folder / "i", **settings,
    )  # fmt: skip
    shown, out, err = terminal()
    return retrain(config, shown, choices=choices), out.getvalue() + err.getvalue()


@pytest.mark.slow
def test_the_checkpoint_is_the_exported_candidates_and_intermediate_graphs_are_each_ones_own(
    tmp_path, mean_colour_backbone
):
    import tensorflow as tf

    choices = {"learning_rate": (0.5, 1e-7)}
    found, shown = here(mean_colour_backbone, tmp_path, choices, intermediate_store_frequency=10)
    assert found.learning_rate == 0.5
    kept = tf.train.load_checkpoint(str(tmp_path / "c" / "head"))
    weights = "final_training_ops/weights/final_weights"
    assert np.array_equal(kept.get_tensor(weights), exported_head(tmp_path / "g.pb", weights))
    assert kept.get_tensor("global_step") == 30
    graphs = {path.relative_to(tmp_path / "i").as_posix() for path in (tmp_path / "i").rglob("*.pb")}
    assert graphs == {f"LR_{rate}/intermediate_{step}.pb" for rate in (0.5, 1e-7) for step in (10, 20)}
    assert all(str(tmp_path / "i" / name) in shown for name in graphs)


@pytest.mark.slow
def test_a_candidate_that_diverges_is_said_and_costs_no_other(tmp_path, mean_colour_backbone):
    # The penalty of weights drives them further and further.
    found, shown = here(mean_colour_backbone, tmp_path, {"learning_rate": (1e38, 0.5)}, l2=0.1)
    assert found.learning_rate == 0.5
    assert (tmp_path / "g.pb").exists()
    assert "LR_1e_38 failed: the training diverged" in shown
    assert ["LR_1e_38", "failed"] in [line.split() for line in shown.splitlines()]
    with pytest.raises(TrainingError, match="diverged"):
        here(mean_colour_backbone, tmp_path, {"learning_rate": (1e38, 1e37)}, l2=0.1)


@pytest.mark.slow
def test_hparams_ends_with_the_figures_of_the_table(tmp_path, mean_colour_backbone):
    """The curves hold samples of the validation photos, the table all of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, shown = here(mean_colour_backbone, tmp_path, {"learning_rate": (1e-3, 1e-4)}, validation_percentage=40)
    for rate in (1e-3, 1e-4):
        events = EventAccumulator(str(tmp_path / "s" / f"LR_{rate}" / "validation"))
        events.Reload()
        (row,) = [line.split() for line in shown.splitlines() if line.startswith(f"LR_{rate}  ")]
        accuracy, loss = (events.Scalars(f"{name}_1")[-1] for name in ("accuracy", "cross_entropy"))
        assert (f"{accuracy.value:.1%}", f"{loss.value:.4f}", accuracy.step) == (row[1], row[5], 30)


@pytest.mark.slow
def test_the_steps_that_were_taken_are_reported(tmp_path, mean_colour_backbone):
    found, shown = here(
        mean_colour_backbone, tmp_path, {}, early_stopping_patience=2, learning_rate=1e-30, eval_step_interval=5
    )
    assert "Stopped after step 10" in shown
    assert found.steps == 11
    assert found.measured[-1].step == 10


def test_a_module_is_not_ranked_under_the_names_of_other_networks(tmp_path):
    config, choices = RetrainConfig(tmp_path, tfhub_module="module"), {"architecture": ("inception_v3", "keras:VGG19")}
    with pytest.raises(UsageError, match="--tfhub_module takes the place of --architecture"):
        retrain(config, choices=choices)


@pytest.mark.slow
def test_a_sweep_that_never_begins_leaves_no_runs(tmp_path):
    colour_folder(tmp_path / "photos", per_class=4)
    words = ("--image_dir=photos", "--learning_rate=0.1,0.2", "--fine_tune_from=no_such_layer")
    command("retrain", *words, cwd=tmp_path, code=2)
    assert not list(tmp_path.rglob("events*"))
