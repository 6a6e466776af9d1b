"""`evaluate` as a command in fresh processes."""

import csv
import json
from argparse import Namespace

import pytest
from builders import exported
from conftest import command, photo

from retrain.metadata import TrainingSplit

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "g.pb")


@pytest.fixture
def photos(tmp_path):
    """Nine good pictures, a green one among the blue, one that is none, and a class that nobody knows."""
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE), ("violet", (200, 0, 200))):
        for number in range(3):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    photo(tmp_path / "photos" / "blue" / "wrong.png", GREEN)
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_answer_is_accuracy_classes_confusion_and_mistakes(graph, photos, tmp_path):
    done = command("evaluate", "--graph", graph, "--image_dir", "photos", "--split", "all", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "Accuracy: 0.9 (N=10, 95% interval 59.6% to 98.2%)"
    assert lines[1].startswith("Cross Entropy: ")
    assert "green       3      75.0%  100.0%   85.7%" in lines
    matrix = lines.index("true    red  green  blue  <- predicted")
    assert lines[matrix + 1 : matrix + 4] == [
        "red       3      0     0",
        "green     0      3     0",
        "blue      0      1     3",
    ]
    assert lines[-2] == "Misclassified (1):"
    assert lines[-1].startswith("blue/wrong.png  green (score=0.")
    assert lines[-1].endswith(", true label blue)")
    assert "evaluate: the model has no class for the folder 'violet', left out" in done.stderr
    assert "evaluate: red/bad.png: empty file, left out" in done.stderr


@pytest.mark.slow
def test_json_and_csv_say_the_same_for_programs(graph, photos, tmp_path):
    words = ["--image_dir", "photos", "--split", "all", "--json", "--predictions", "out/said.csv"]
    done = command("evaluate", graph, *words, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["accuracy"], found["images"], found["split"]) == (0.9, 10, "all")
    assert found["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 1, 3]]
    assert [own["name"] for own in found["classes"]] == ["red", "green", "blue"]
    assert found["unknown_classes"] == ["violet"]
    assert found["rejected"] == {"red/bad.png": "empty file"}
    (wrong,) = found["misclassified"]
    assert (wrong["path"], wrong["true"], wrong["predicted"]) == ("blue/wrong.png", "blue", "green")
    rows = list(csv.DictReader((tmp_path / "out" / "said.csv").read_text().splitlines()))
    assert len(rows) == 10
    assert {(row["image"], row["predicted"]) for row in rows if row["true"] != row["predicted"]} == {
        ("blue/wrong.png", "green")
    }
    for row in rows:
        assert float(row["score"]) == max(float(row[name]) for name in ("red", "green", "blue"))


@pytest.mark.slow
def test_predictions_hold_no_formulas_and_no_control_characters(mean_colour_backbone, tmp_path):
    labels = ("=1+1", "green", "blue")
    exported(mean_colour_backbone, tmp_path / "g.pb", labels=labels)
    photo(tmp_path / "photos" / "=1+1" / "x\x1b[31m.png", RED)
    photo(tmp_path / "photos" / "green" / "1.png", GREEN)
    words = ["--image_dir", "photos", "--split", "all", "--predictions", "said.csv"]
    command("evaluate", "g.pb", *words, cwd=tmp_path)
    first, second = csv.reader((tmp_path / "said.csv").read_text().splitlines()[:2])
    assert first == ["image", "true", "predicted", "score", "'=1+1", "green", "blue"]
    assert second[:3] == ["'=1+1/x\\x1b[31m.png", "'=1+1", "'=1+1"]


@pytest.mark.slow
def test_by_default_it_looks_at_the_images_left_for_testing_and_says_so(graph, tmp_path):
    for part, count in (("train", 5), ("test", 2)):
        for name, colour in (("red", RED), ("blue", BLUE)):
            for number in range(count):
                photo(tmp_path / "photos" / part / name / f"{number}.png", colour, seed=number)
    shown = command("evaluate", graph, "--image_dir", "photos", cwd=tmp_path).stdout
    assert "(N=4," in shown
    assert "These are the testing images of the folder; --split all takes every image." in shown


@pytest.mark.slow
def test_percentages_go_before_those_of_the_training_which_are_then_said(mean_colour_backbone, tmp_path):
    exported(mean_colour_backbone, tmp_path / "g.pb", split=TrainingSplit(0, 99))
    for name, colour in (("red", RED), ("blue", BLUE)):
        for number in range(10):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    done = command("evaluate", "g.pb", "--image_dir", "photos", cwd=tmp_path)
    assert "(N=20," in done.stdout
    assert "split" not in done.stderr
    done = command("evaluate", "g.pb", "--image_dir", "photos", "--testing_percentage", "90", cwd=tmp_path)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("evaluate: ")]
    assert "was validation 0 % and testing 99 %, this one is validation 0 % and testing 90 %" in said
    command("evaluate", "g.pb", "--image_dir", "photos", "--validation_percentage", "10", cwd=tmp_path, code=2)


@pytest.mark.slow
def test_a_folder_with_one_class_can_be_measured(graph, tmp_path):
    for number in range(3):
        photo(tmp_path / "photos" / "red" / f"{number}.png", RED, seed=number)
    assert "(N=3," in command("evaluate", graph, "--image_dir", "photos", "--split", "all", cwd=tmp_path).stdout


def test_many_classes_give_the_worst_confusions_and_no_matrix(tmp_path):
    import numpy as np

    from retrain.cli import evaluate as cli_evaluate
    from retrain.evaluation.folder import FolderEvaluation

    count = 30
    labels = np.repeat(np.arange(count), 2)
    probabilities = np.eye(count, dtype=np.float32)[np.where(labels == 3, 4, labels)]
    names = tuple(f"class {number}" for number in range(count))
    found = FolderEvaluation(names, tuple(map(str, range(2 * count))), probabilities, labels, {}, ())
    lines = cli_evaluate._lines(found, Namespace(split="all", views=1))
    assert lines[lines.index("Most often confused:") + 1] == "class 3 predicted as class 4: 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["gone.pb"], 1, "cannot read the graph gone.pb"),
        (["g.pb", "--image_dir", "gone"], 1, "no such image folder: gone"),
        (["g.pb", "--split", "some"], 2, "invalid choice"),
        (["g.pb", "--input_std", "0"], 2, "--input_std is 0"),
        (["gone.pb", "--testing_percentage", "nan"], 2, "--testing_percentage is nan; it must lie between 0 and 100"),
        (["g.pb", "--image_dir", "empty"], 1, "no class folder with images"),
        (["g.pb", "--image_dir", "others"], 1, "none of the class folders in others is a class of the model"),
        (["g.pb", "--image_dir", "photos", "--predictions", "/proc/x.csv"], 1, "cannot write /proc/x.csv"),
        (
            ["g.pb", "--image_dir", "photos", "--predictions", "photos/red/0.png"],
            1,
            "a file that is no CSV file of pred",
        ),
        (["g.pb", "--image_dir", "photos", "--predictions", "g.pb"], 1, "cannot write g.pb"),
        (["g.pb", "--image_dir", "photos", "--labels", "l.csv", "--predictions", "l.csv"], 2, "which --labels reads"),
        (["g.pb", "--image_dir", "photos", "--testing_percentage", "0"], 1, "--split all takes every image"),
    ],
)
def test_nonsense_is_answered_in_one_line(graph, photos, tmp_path, words, code, said):
    (tmp_path / "empty").mkdir()
    photo(tmp_path / "others" / "cat" / "1.png", RED)
    done = command("evaluate", *words, cwd=tmp_path, code=code)
    assert said in done.stderr
    assert done.stdout == ""
