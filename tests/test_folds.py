"""`retrain --folds`, on real files."""

import json
import re
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from builders import terminal
from conftest import COLOURS, colour_folder, command, photo

from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.candidates import Candidate
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter
from retrain.evaluation import runs
from retrain.folds import cross_validate
from retrain.head import linear


@pytest.fixture
def photos(tmp_path):
    """Sixty photos whose colour is their class, and one more, in the wrong folder."""
    colour_folder(tmp_path / "photos")
    photo(tmp_path / "photos" / "cyan" / "wrong.png", COLOURS["magenta"], seed=50)
    return tmp_path


def run(folder, backbone, *more, code=0):
    return command(
        "retrain", "photos", f"--architecture={backbone}", "--bottleneck_tensor=mean_colour",
        "--how_many_training_steps=60", *more, cwd=folder, code=code,
    )  # fmt: skip


def said(done):
    return [line for line in done.stdout.splitlines() if "cross-validation" in line]


def figures(folder):
    return json.loads((folder / "tf_files" / "retrained_graph.report.json").read_text())["cross_validation"]


@pytest.mark.slow
def test_mean_and_spread_are_printed_reported_and_kept(photos, mean_colour_backbone):
    done = run(photos, mean_colour_backbone, "--folds", "3", "--run_name=folds")
    found = figures(photos)
    assert sorted(found["counts"]) == [20, 20, 21]
    wrong = [count for count, share in zip(found["counts"], found["accuracies"], strict=True) if share < 1]
    assert len(wrong) == 1  # the photo in the wrong folder, and no other
    low = 1 - 1 / wrong[0]
    assert min(found["accuracies"]) == pytest.approx(low)
    assert found["mean"] == pytest.approx((2 + low) / 3)
    assert found["standard_deviation"] == pytest.approx((1 - low) / 3**0.5)
    assert (found["photos"], found["accuracy"]) == (61, pytest.approx(60 / 61))
    assert found["interval"]["low"] < found["accuracy"] < found["interval"]["high"]
    spread = f"{found['mean']:.1%} +- {100 * found['standard_deviation']:.1f}"
    assert said(done) == [f"3-fold cross-validation: {spread} (folds {low:.1%} to 100.0%), N=61"]
    assert "Cross-validation: 3/3" in done.stderr
    page = (photos / "tf_files" / "retrained_graph.report.html").read_text()
    assert "<h2>Cross-validation</h2><p>" + said(done)[0] in page
    kept = runs.read(photos / "tf_files" / "runs" / "folds")
    assert kept.record.cross_validation == [found["mean"], found["standard_deviation"]]
    assert json.loads((kept.folder / "report.json").read_text())["cross_validation"] == found
    assert spread in command("retrain", "runs", cwd=photos).stdout


@pytest.mark.slow
def test_folds_change_no_byte_of_the_graph_and_give_the_same_figures_again(photos, mean_colour_backbone):
    graph, found = photos / "tf_files" / "retrained_graph.pb", []
    for more in (["--folds=0"], ["--folds=5"], ["--folds=5"], ["--folds=5", "--random_seed=1"]):
        run(photos, mean_colour_backbone, *more)
        found.append((graph.read_bytes(), figures(photos)))
    plain, first, again, other = found
    assert plain[1] is None
    assert plain[0] == first[0]
    assert first == again
    assert other[1]["cross_entropy"] != first[1]["cross_entropy"]


@pytest.mark.slow
def test_distorted_copies_of_all_photos_are_made_once(photos, mean_colour_backbone):
    words = ["--flip_left_right", "--random_brightness=5", "--distortion_copies=2"]
    first = run(photos, mean_colour_backbone, *words)
    (computed,) = re.findall(r"Features for 61 photos.*: (\d+) computed", first.stdout)
    done = run(photos, mean_colour_backbone, *words, "--folds=3")
    # Each photo and its copies, but for what the training has stored already.
    assert f"Bottlenecks of folds: {3 * 61 - int(computed)}/" in done.stderr
    assert (figures(photos)["photos"], figures(photos)["accuracy"]) == (61, pytest.approx(60 / 61))
    again = run(photos, mean_colour_backbone, *words, "--folds=3")
    assert "Bottlenecks" not in again.stderr
    assert said(again) == said(done)


@pytest.mark.slow
def test_photos_of_a_test_folder_take_part_beside_near_duplicates_of_theirs(tmp_path, mean_colour_backbone):
    """A photo of another colour than its class is right only by the head that has seen the other one of its kind."""
    for folder, numbers in (("train", range(12)), ("test", range(12, 16))):
        for name, colour in COLOURS.items():
            for number in numbers:
                photo(tmp_path / "photos" / folder / name / f"{number}.png", colour, seed=number)
        photo(tmp_path / "photos" / folder / "cyan" / f"odd_nohash_{folder}.png", (0, 0, 0))
    done = run(tmp_path, mean_colour_backbone, "--folds=5", "--how_many_training_steps=2000", "--learning_rate=0.3")
    assert figures(tmp_path)["photos"] == 3 * 16 + 2
    assert figures(tmp_path)["accuracy"] <= 1 - 2 / 50
    assert said(done)


@pytest.mark.slow
def test_a_fine_tuned_network_is_left_out_and_said(tmp_path):
    colour_folder(tmp_path / "photos", per_class=8)
    done = command(
        "retrain", "photos", "--architecture=mobilenet_bundled", "--image_size=32", "--how_many_training_steps=20",
        "--fine_tune_from=1", "--fine_tune_steps=2", "--folds=2", cwd=tmp_path,
    )  # fmt: skip
    (line,) = said(done)
    assert line.startswith("2-fold cross-validation of the last layer alone, without the fine-tuning: ")
    assert figures(tmp_path)["last_layer_only"] is True


@pytest.mark.slow
def test_of_a_sweep_the_winner_is_cross_validated(photos, mean_colour_backbone):
    done = run(photos, mean_colour_backbone, "--learning_rate=1e-9,0.1", "--folds=2")
    assert len(said(done)) == 1
    assert done.stderr.count("Cross-validation: 2/2") == 1
    assert figures(photos)["mean"] > 0.9


@pytest.mark.slow
def test_heads_stop_where_the_early_stopping_of_the_training_stopped(photos, mean_colour_backbone):
    """The fold that is scored may not decide when to stop."""
    words = [
        "--early_stopping_patience=1",
        "--eval_step_interval=1",
        "--validation_batch_size=-1",
        "--learning_rate=30",
    ]
    done = run(photos, mean_colour_backbone, *words, "--folds=3")
    step = int(re.search(r"Kept the weights of step (\d+)", done.stdout)[1])
    assert step < 59
    stopped = figures(photos)
    run(photos, mean_colour_backbone, "--folds=3", "--learning_rate=30", f"--how_many_training_steps={step + 1}")
    assert figures(photos) == stopped


@pytest.mark.slow
def test_a_class_that_is_in_one_fold_alone_is_named(photos, mean_colour_backbone):
    photo(photos / "photos" / "alone" / "1.png", (9, 9, 9))
    done = run(photos, mean_colour_backbone, "--folds=2")
    assert figures(photos)["unseen"] == ["alone"]
    assert said(done)[1].endswith("so that no head that scored them had seen one: class 'alone'.")


@pytest.mark.slow
def test_a_training_that_diverges_in_a_fold_costs_the_run_nothing(photos, mean_colour_backbone):
    folder = photos / "photos"
    config = RetrainConfig(folder, folds=2, learning_rate=1e38, how_many_training_steps=20)
    spec = replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour")
    source = families.locate(spec, WeightsRequest(photos))
    settings = PreparationSettings(photos / "bottlenecks", Distorter(Distortions(), 0))
    shown, _, warned = terminal()
    with ExitStack() as opened:
        prepared = prepare(scan(folder), source, settings, None, terminal=shown, opened=opened)
        head = linear(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
        read = prepared.read
        chosen = Candidate(
            config, prepared, None, head, read, read, [], steps=20, step=19, summaries_dir=photos, curves={}
        )
        assert cross_validate(chosen, shown) is None
    (line,) = [line for line in warned.getvalue().splitlines() if "cross-validation" in line]
    assert line.startswith("No cross-validation: in one of the folds, the training diverged before step ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folds=1"], "--folds is 1; it must be 0, or at least 2 and at most 100."),
        (["--folds=62"], "--folds is 62, and there are 61 photos to divide; those of a group, or whose"),
        (["--folds=5", "--flip_left_right", "--distortion_copies=0"], "--folds needs distorted copies that are stored"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(photos, words, message):
    done = run(photos, "mobilenet_bundled", *words, code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (photos / "tf_files").exists()


@pytest.mark.slow
def test_small_sets_have_five_folds_by_default_whose_figures_are_kept(photos, mean_colour_backbone):
    done = run(photos, mean_colour_backbone)
    first = figures(photos)
    assert len(first["counts"]) == 5
    assert said(done)[0].startswith("5-fold cross-validation: ")
    assert "Cross-validation: 5/5" in done.stderr
    again = run(photos, mean_colour_backbone)
    assert figures(photos) == first
    assert said(again) == said(done)
    assert "Cross-validation" not in again.stderr
    photo(photos / "photos" / "cyan" / "another.png", COLOURS["magenta"], seed=51)
    changed = run(photos, mean_colour_backbone)
    assert figures(photos)["photos"] == 62
    assert "Cross-validation: 5/5" in changed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--folds=0"], ["--flip_left_right"], ["--hidden_units=4"], ["--time_limit=60s"]])
def test_nothing_that_takes_long_is_done_without_being_asked_for(photos, mean_colour_backbone, words):
    done = run(photos, mean_colour_backbone, *words)
    assert figures(photos) is None
    assert said(done) == []


@pytest.mark.slow
def test_the_smallest_set_has_as_many_folds_as_photos(tmp_path, mean_colour_backbone):
    for name in ("cyan", "yellow"):
        for number in range(2):
            photo(tmp_path / "photos" / name / f"{number}.png", COLOURS[name], seed=number)
    done = run(tmp_path, mean_colour_backbone)
    assert figures(tmp_path)["counts"] == [1, 1, 1, 1]
    assert said(done)[0].startswith("4-fold cross-validation: ")
