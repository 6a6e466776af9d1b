"""What a stranger types, and every line that answers."""

import shutil
from dataclasses import fields

import pytest
from conftest import ROOT, colour_folder, command, photo

from retrain.cli import label_image_parser, retrain_parser
from retrain.config import RetrainConfig


def one_line(done):
    """Return the only line on standard error."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_flags_are_the_fields_of_the_config_with_their_defaults():
    flags = {action.dest: action.default for action in retrain_parser()._actions}
    own = {field.name: field.default for field in fields(RetrainConfig)}
    assert flags.keys() - own.keys() == {"help", "verbose", "version"}
    assert {name: default for name, default in own.items() if name != "image_dir"}.items() <= flags.items()


def test_abbreviated_flags_work_as_they_always_did():
    assert retrain_parser().parse_args(["--output_l", "x.txt"]).output_labels.name == "x.txt"
    assert label_image_parser().parse_args(["--input_me", "0"]).input_mean == 0.0


@pytest.mark.parametrize("words", [["retrain", "--help"], ["label_image", "--help"], ["retrain", "--version"]])
def test_help_answers(words, tmp_path):
    done = command(*words, cwd=tmp_path)
    assert words[0] in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--image_dir is missing"),
        (["--image_dir", "photos", "--learing_rate", "1"], 2, "Did you mean --learning_rate"),
        (
            ["--image_dir", "photos", "--testing_percentage", "60", "--validation_percentage", "60"],
            2,
            "leave no training data",
        ),
        (["--image_dir", "photos", "--how_many_training_steps", "0"], 2, "must be at least 1"),
        (["--image_dir", "photos", "--learning_rate", "0"], 2, "must be above 0"),
        (["--image_dir", "photos", "--learning_rate", "nan"], 2, "must be above 0"),
        (["--image_dir", "photos", "--validation_batch_size", "0"], 2, "-1 for all"),
        (["--image_dir", "photos", "--input_std", "0"], 2, "--input_std is 0"),
        (["--image_dir", "photos", "--final_tensor_name", "a b"], 2, "--final_tensor_name is 'a b'"),
        (["--image_dir", "nowhere"], 1, "no such image folder: nowhere"),
        (["--image_dir", "empty"], 1, "no class folder with images"),
        (["--image_dir", "one"], 1, "only one class folder"),
        (["--image_dir", "photos/cyan/0.png"], 1, "no such image folder"),
        (["--image_dir", "photos", "--architecture", "mobilnet_0.25_128"], 1, "mobilenet_0.25_128"),
        (["--image_dir", "photos", "--architecture", "gone.pb"], 1, "no such file: gone.pb"),
        (["--image_dir", "photos", "--output_graph", "photos"], 1, "cannot write photos"),
        (["--image_dir", "photos", "--output_graph", "photos/cyan/0.png/x.pb"], 1, "cannot write"),
        (["--image_dir", "photos", "--output_labels", "/proc/x/y.txt"], 1, "cannot write /proc/x/y.txt"),
    ],
)
def test_a_mistake_is_answered_in_one_line(tmp_path, arguments, code, words):
    colour_folder(tmp_path / "photos", per_class=1)
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "one" / "only" / "1.png", (1, 2, 3))
    assert words in one_line(command("retrain", *arguments, cwd=tmp_path, code=code))
    assert not (tmp_path / "tf_files" / "bottlenecks").exists()


@pytest.mark.parametrize("arguments", [["--learning_rate", "fast"], ["--train_batch_size", "1.5"]])
def test_a_value_of_the_wrong_kind_is_bad_usage(tmp_path, arguments):
    assert "invalid" in command("retrain", "--image_dir", "x", *arguments, cwd=tmp_path, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "no image given"),
        (["--grph", "x", "y.jpg"], 2, "Did you mean --graph"),
        (["photo.png"], 1, "cannot read the graph tf_files/retrained_graph.pb"),
        (["--graph", "photo.png", "photo.png"], 1, "is not a frozen TensorFlow graph"),
        (["empty"], 2, "no image files in empty"),
    ],
)
def test_label_image_answers_a_mistake_in_one_line(tmp_path, arguments, code, words):
    photo(tmp_path / "photo.png", (1, 2, 3))
    (tmp_path / "empty").mkdir()
    assert words in one_line(command("label_image", *arguments, cwd=tmp_path, code=code))


def test_an_archive_that_cannot_be_downloaded_names_all_three_ways_out(tmp_path):
    colour_folder(tmp_path / "photos", per_class=1)
    # A proxy that nobody answers at is a machine without a network.
    env = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = command(
        "retrain", "--image_dir", "photos", "--architecture", "mobilenet_1.0_224", cwd=tmp_path, code=1, env=env
    )
    line = done.stderr.strip().splitlines()[-1]
    assert "mobilenet_v1_1.0_224_frozen.tgz" in line
    assert "tf_files/models" in line
    assert "mobilenet_bundled" in line


def test_the_codelabs_module_names_run_the_same_commands(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("retrain", "label_image"):
        by_file = command("python", f"scripts/{name}.py", "--help", cwd=tmp_path).stdout
        assert by_file == command(name, "--help", cwd=tmp_path).stdout
        by_module = command("python", "-m", f"scripts.{name}", "--help", cwd=tmp_path).stdout
        assert by_module == command(name, "--help", cwd=tmp_path).stdout
