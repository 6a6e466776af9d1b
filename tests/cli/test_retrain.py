"""What a stranger types, and every line that answers."""

import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT, colour_folder, command, photo

from retrain.cli import retrain, spelling
from retrain.cli.flags import evaluate_parser, hidden_units, label_image_parser, retrain_parser
from retrain.config import ORIGINAL_PATHS, RetrainConfig
from retrain.errors import UsageError
from retrain.sweep import SWEEPABLE


def one_line(done):
    """Return the only line on standard error."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_flags_are_the_fields_of_the_config_with_their_defaults():
    flags = {action.dest: action.default for action in retrain_parser()._actions}
    flags |= {name: flags[name][0] for name in SWEEPABLE if name != "hidden_units"}
    assert hidden_units(flags.pop("hidden_units")) == (RetrainConfig.hidden_units,)
    flags["hidden_units"] = RetrainConfig.hidden_units
    own = {field.name: field.default for field in fields(RetrainConfig)}
    others = {"help", "verbose", "version", "logging_verbosity", "list_layers", "folder", "apply_marks", "undo_marks"}
    others |= {"check"}
    assert flags.keys() - own.keys() == others
    assert {name: default for name, default in own.items() if name != "image_dir"}.items() <= flags.items()


def test_abbreviated_flags_work_as_they_always_did():
    assert retrain_parser().parse_args(["--output_l", "x.txt"]).output_labels.name == "x.txt"
    assert label_image_parser().parse_args(["--input_me", "0"]).input_mean == 0.0


@pytest.mark.parametrize("words", [["retrain", "--help"], ["label_image", "--help"], ["retrain", "--version"]])
def test_help_answers(words, tmp_path):
    done = command(*words, cwd=tmp_path)
    assert words[0] in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(tmp_path, columns):
    shown = command("retrain", "--help", cwd=tmp_path, env={"COLUMNS": str(columns)}).stdout
    assert max(map(len, shown.splitlines())) <= columns
    names = shown.split("architectures:")[1].split("keras:<name>")[1].split("PATH")[0]
    assert {"MobileNetV2,", "EfficientNetV2B0,", "downloaded", "--weights"} <= set(names.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--image_dir is missing"),
        (["photos", "--learing_rate", "1"], 2, "Did you mean --learning_rate"),
        (["photos", "--learning-rate", "1"], 2, "Did you mean --learning_rate"),
        (
            ["photos", "--steps=10"],
            2,
            "--steps=10. Did you mean --how_many_training_steps? `retrain --help` lists all.",
        ),
        (["photos", "--model", "x"], 2, "Did you mean --architecture?"),
        (["photos", "--learning_rate", "fast"], 2, "--learning_rate: 'fast' is neither a number nor auto. `retrain"),
        (["photos", "--learning_rate", "auto,0.1"], 2, "auto tries several rates by itself. Give it alone, or numbers"),
        (["photos", "--output", "x"], 2, "--output could match --output_graph, --output_labels. `retrain --help`"),
        (["photos", "--architecture", "mobilenet_v2"], 1, "Did you mean: keras:MobileNetV2?"),
        (["with", "space"], 2, "the folder 'with space' has a space in its name. Quote it: 'with space'"),
        (["--image_dir", "with", "space"], 2, "Quote it: --image_dir 'with space'"),
        (["photos", "empty"], 2, "one folder of photos is read, and 'photos' and 'empty' were given. Put the class f"),
        (["photos", "--random_seed", "1", "10"], 2, "one folder of photos is read, and 'photos' and '10' were given."),
        (["--hidden_units", "8", "photos"], 2, "give whole numbers. Put the folder before the flags."),
        (["--flip_left_right", "photos"], 2, "is neither True nor False. Put the folder before the flags."),
        (["run"], 2, "'run' is neither a folder nor a sub-command. Did you mean runs?"),
        (["photo"], 1, "no such image folder: photo. Did you mean photos?"),
        (["outer"], 1, "Its folder outer/my has 3, 'cyan', 'magenta', 'yellow': if these are the classes, give that"),
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
        (["--image_dir", "photos", "--test_batch_size", "0"], 2, "-1 for all"),
        (["--image_dir", "photos", "--learning_rate", "0.1,0"], 2, "--learning_rate is 0; it must be above 0"),
        (["--image_dir", "photos", "--optimizer", "sgd,adma"], 2, "one of sgd, momentum, rmsprop, adam"),
        (["--image_dir", "photos", "--dropout", "1"], 2, "below 1"),
        (["--image_dir", "photos", "--random_seed", "-1"], 2, "--random_seed is -1; it must be 0 to"),
        (["--image_dir", "photos", "--hidden_units", "-3"], 2, "at least 1"),
        (["--image_dir", "photos", "--image_size", "64", "--architecture", "mobilenet_1.0_224"], 1, "takes 224 px"),
        (["--image_dir", "photos", "--random_crop", "-3"], 2, "--random_crop is -3; it must be 0 to"),
        (["--image_dir", "photos", "--random_brightness", "101"], 2, "it must be 0 to 100"),
        (["--image_dir", "photos", "--distortion_copies", "-1"], 2, "must be at least 0"),
        (["--image_dir", "photos", "--saved_model_dir", "photos"], 1, "photos holds other files already"),
        (["--image_dir", "photos", "--checkpoint_path", "photos/cyan/0.png/x"], 1, "cannot write"),
        (["--image_dir", "photos", "--final_tensor_name", "a b"], 2, "--final_tensor_name is 'a b'"),
        (["--image_dir", "photos", "--final_tensor_name", "Retrain_Metadata"], 2, "as another node of the graph"),
        (["--image_dir", "photos", "--how_many_training_steps", "1000000000"], 2, "samples 100,000,000,000 photos"),
        (["--image_dir", "photos", "--testing_percentage", "nan"], 2, "--testing_percentage is nan"),
        (["--image_dir", "nowhere"], 1, "no such image folder: nowhere"),
        (["--image_dir", "empty"], 1, "no class folder with images"),
        (["--image_dir", "one"], 1, "only one class folder"),
        (["photos/cyan/0.png"], 1, "is one image. Give the folder above its class folder; label_image photos/cyan/0."),
        (["photos/cyan"], 1, "It looks like one of the classes in photos: give that folder."),
        (["--image_dir", "photos", "--architecture", "mobilnet_0.25_128"], 1, "mobilenet_0.25_128"),
        (["--image_dir", "photos", "--architecture", "gone.pb"], 1, "no such file: gone.pb"),
        (["--image_dir", "photos", "--output_graph", "photos"], 1, "cannot write photos"),
        (["--image_dir", "photos", "--output_graph", "photos/cyan/0.png/x.pb"], 1, "cannot write"),
        (["--image_dir", "photos", "--output_labels", "/proc/x/y.txt"], 1, "cannot write /proc/x/y.txt"),
        (
            ["--image_dir", "photos", "--output_graph", "x.tflite"],
            2,
            "--output_graph is x.tflite, and .tflite files are",
        ),
        (
            ["--image_dir", "photos", "--output_labels", "tf_files/retrained_graph.pb"],
            2,
            "--output_graph and --output_la",
        ),
        (["--image_dir", "photos", "--output_labels", "tf_files/retrained_graph.report.json"], 2, "would both write"),
        (["--image_dir", "photos", "--output_labels", "tf_files/checkpoints/head.npz"], 2, "would both write"),
        (["--image_dir", "photos", "--output_labels", "photos/cyan/0.png"], 1, "a file that is no text file is there"),
        (
            ["--image_dir", "photos", "--output_graph", "photos/cyan/0.png"],
            1,
            "a file that is no frozen graph is there",
        ),
        (["--image_dir", "photos", "--saved_model_dir", "out", "--output_graph", "out/g.pb"], 2, "writes as a whole"),
        (["--image_dir", "photos", "--saved_model_dir", "out", "--summaries_dir", "out/s"], 2, "writes as a whole"),
        (["--image_dir", "photos", "--weights", "a.npz", "--output_labels", "a.npz"], 2, "which --weights reads"),
        (
            ["photos", "--engine=litert", "--precision=bfloat16"],
            2,
            "--engine litert does not compute in bfloat16. Give op",
        ),
        (["photos", "--engine=turbo"], 2, "--engine is 'turbo'; it must be one of auto, litert, openvino, tensorflow."),
        (
            ["photos", "--precision=int8", "--fine_tune_from=2"],
            2,
            "trains in float32, not in int8. Leave --precision ou",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_line(tmp_path, arguments, code, words):
    colour_folder(tmp_path / "photos", per_class=1)
    colour_folder(tmp_path / "outer" / "my", per_class=1)
    colour_folder(tmp_path / "with space", per_class=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.npz").touch()
    photo(tmp_path / "one" / "only" / "1.png", (1, 2, 3))
    assert words in one_line(command("retrain", *arguments, cwd=tmp_path, code=code))
    assert not (tmp_path / "tf_files" / "bottlenecks").exists()


@pytest.mark.parametrize(
    "words", [["photos"], ["--image_dir=photos"], ["--random_seed=3", "photos"], ["photos", "--image_dir", "photos"]]
)
def test_the_folder_may_be_named_without_its_flag(words):
    assert retrain.parse(words).config.image_dir == Path("photos")


def test_other_tools_names_lead_to_flags_that_exist():
    flags = {"--run_name"}
    for parser in (retrain_parser(), label_image_parser(), evaluate_parser()):
        flags |= parser._option_string_actions.keys()
    for name, ours in spelling._CALLED_ELSEWHERE.items():
        assert spelling.meant(f"--{name}", flags) == f"--{ours.split()[0]}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--epochs", "--how_many_epochs"),
        ("--lr", "--learning_rate"),
        ("--batch-size", "--train_batch_size"),
        ("--data_dir", "--image_dir"),
        ("--seed", "--random_seed"),
        ("--input", "--image_dir"),
        ("--cv", "--folds"),
        ("--letterbox", "--keep_aspect_ratio"),
        ("--weight-decay", "--l2"),
        ("--timeout", "--time_limit"),
    ],
)
def test_common_spellings_are_answered_with_ours(typed, meant):
    with pytest.raises(UsageError, match=f"unknown argument {typed}.* Did you mean {meant}[?]"):
        retrain.parse(["photos", typed, "3"])


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["--early_stopping_patience=2"], ["--fine_tune_from=3"], ["--learning_rate=0.1,0.2"], ["--learning_rate=auto"]],
)
def test_what_chooses_by_validation_images_needs_some(tmp_path, words):
    colour_folder(tmp_path / "photos", per_class=3)
    done = command("retrain", "--image_dir=photos", "--validation_percentage=0", *words, cwd=tmp_path, code=2)
    assert "chooses by validation images, and there are none" in one_line(done)
    assert not (tmp_path / "tf_files" / "bottlenecks").exists()


@pytest.mark.slow
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
    assert "efficientnet_lite0" in line


@pytest.mark.slow
def test_the_codelabs_module_names_run_the_same_commands(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    env = {"COLUMNS": "200"}
    for name in ("retrain", "label_image"):
        installed = command(name, "--help", cwd=tmp_path, env=env).stdout
        for flag, path in ORIGINAL_PATHS.items() if name == "retrain" else ():
            assert f"(default: {getattr(RetrainConfig, flag)})" in installed
            installed = installed.replace(f"(default: {getattr(RetrainConfig, flag)})", f"(default: {path})")
        assert command("python", f"scripts/{name}.py", "--help", cwd=tmp_path, env=env).stdout == installed
        assert command("python", "-m", f"scripts.{name}", "--help", cwd=tmp_path, env=env).stdout == installed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--random_s", "random_scale"),
        ("--random_c", "random_crop"),
        ("--check", "checkpoint_path"),
        ("--bottle", "bottleneck_dir"),
        ("--image", "image_dir"),
        ("--how", "how_many_training_steps"),
        ("--learn", "learning_rate"),
        ("--tf", "tfhub_module"),
        ("--test_b", "test_batch_size"),
    ],
)
def test_an_abbreviation_that_the_originals_knew_means_what_it_meant(typed, meant):
    given = vars(retrain_parser().parse_args([f"{typed}=7"]))
    assert str(given[meant]) in ("7", "7.0", "(7.0,)")


@pytest.mark.parametrize(("words", "value"), [([], True), (["True"], True), (["False"], False), (["1"], True)])
def test_the_true_that_people_write_behind_a_switch_is_understood(words, value):
    parsed = retrain_parser().parse_args(["--flip_left_right", *words, "--image_dir", "x"])
    assert (parsed.flip_left_right, parsed.image_dir.name) == (value, "x")


@pytest.mark.parametrize(
    ("words", "heads"),
    [
        (["256"], [(256,)]),
        (["512", "256"], [(512, 256)]),
        (["0,256"], [(), (256,)]),
        (["512", "256,128"], [(512, 256), (128,)]),
    ],
)
def test_hidden_units_are_layers_and_commas_part_heads(words, heads):
    given = retrain_parser().parse_args(["--hidden_units", *words])
    assert hidden_units(given.hidden_units) == tuple(heads)
    repeated = [word for unit in words for word in ("--hidden_units", unit)]
    assert hidden_units(retrain_parser().parse_args(repeated).hidden_units) == tuple(heads)


def test_hidden_units_that_are_no_numbers_are_bad_usage():
    with pytest.raises(UsageError, match="whole numbers"):
        hidden_units(["many"])


@pytest.mark.slow
def test_logging_verbosity_decides_what_is_printed(tmp_path, mean_colour_backbone):
    folder = colour_folder(tmp_path / "photos", per_class=6)
    (folder / "cyan" / "bad.jpg").write_bytes(b"")
    shown = {}
    for level in ("debug", "WARN", "ERROR"):
        shown[level] = command(
            "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--how_many_training_steps=2",
            "--bottleneck_tensor=mean_colour", f"--logging_verbosity={level}", cwd=tmp_path,
        )  # fmt: skip
    assert "Placeholder, 16 x 16 px" in shown["debug"].stderr
    assert "Final test accuracy" in shown["debug"].stdout
    assert (shown["WARN"].stdout, "Skipped cyan/bad.jpg" in shown["WARN"].stderr) == ("", True)
    assert (shown["ERROR"].stdout, shown["ERROR"].stderr) == ("", "")
