"""Several values are all tried, compared on one chart, and the best on the validation images is exported."""

import json

import pytest
from conftest import COLOURS, colour_folder, command

from retrain import sweep
from retrain.evaluation.metrics import Interval
from retrain.sweep import TrialResult


def test_every_combination_is_named_after_what_differs():
    names = [t.name for t in sweep.trials({"learning_rate": (0.005, 1.0), "hidden_units": ((), (512, 256))})]
    assert names == ["LR_0.005_HIDDEN_0", "LR_0.005_HIDDEN_512-256", "LR_1.0_HIDDEN_0", "LR_1.0_HIDDEN_512-256"]
    assert [t.name for t in sweep.trials({"architecture": ("keras:VGG19", "a/b.pb")})] == ["keras_VGG19", "a_b.pb"]
    assert [(t.name, t.values) for t in sweep.trials({})] == [("", {})]


def test_trials_rank_by_accuracy_then_by_cross_entropy():
    results = [
        TrialResult(name, accuracy, loss, Interval(0, 1), 1.0, 10**6)
        for name, accuracy, loss in (("a", 0.5, 0.1), ("b", 0.9, 0.5), ("c", 0.9, 0.4), ("d", 0.9, 0.4))
    ]
    assert sweep.ranking(results) == [2, 3, 1, 0]
    assert [line.split()[0] for line in sweep.table(results)] == ["run", "c", "d", "b", "a"]


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
