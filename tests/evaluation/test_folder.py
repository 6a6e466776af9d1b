import hashlib

import numpy as np
import pytest
from builders import exported
from conftest import colour_folder, photo

from retrain.data.dataset import scan
from retrain.data.split import Split, SplitRule
from retrain.errors import DatasetError
from retrain.evaluation.folder import evaluate, match_classes
from retrain.inference import loading as model_loading
from retrain.metadata import TrainingSplit

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def model(mean_colour_backbone, tmp_path):
    return model_loading.load(exported(mean_colour_backbone, tmp_path / "g.pb"))


def test_every_image_is_scored_under_its_own_class(model, tmp_path):
    for name, colour in (("Red", RED), ("green", GREEN), ("blue", BLUE), ("violet", (200, 0, 200))):
        for number in range(3):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    photo(tmp_path / "photos" / "green" / "wrong.png", BLUE)
    (tmp_path / "photos" / "blue" / "bad.png").write_bytes(b"")
    found = evaluate(model, tmp_path / "photos", split=None)
    # "Red" is what the original would have written as "red"; "violet" the model does not know.
    assert found.unknown == ("violet",)
    assert found.rejected == {"blue/bad.png": "empty file"}
    right = found.probabilities.argmax(1) == found.labels
    assert np.array(found.paths)[~right].tolist() == ["green/wrong.png"]
    assert len(found.labels) == 10


def test_a_ready_made_test_folder_is_the_test_split(model, tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for name, colour in (("red", RED), ("blue", BLUE)):
            for number in range(count):
                photo(tmp_path / "photos" / part / name / f"{number}.png", colour, seed=number)
    found = evaluate(model, tmp_path / "photos", split=Split.TESTING)
    assert len(found.paths) == 4
    assert all(path.startswith("test/") for path in found.paths)


def test_folders_that_the_model_does_not_know_are_one_clear_error(model, tmp_path):
    with pytest.raises(DatasetError, match="none of the class folders"):
        evaluate(model, colour_folder(tmp_path / "photos", per_class=2))


@pytest.mark.parametrize(
    ("folders", "labels", "matched"),
    [
        (("A+", "A-", "A"), ("A", "A+", "A-"), {"A": 0, "A+": 1, "A-": 2}),
        (("A+",), ("A-", "B"), {}),
        (("A",), ("A-", "B"), {}),
        (("crane", "rose"), ("crane", "rose", "crane"), {"rose": 1}),
        (("rose", "Rose"), ("rose",), {"rose": 0}),
        (("Golden_Retriever", "hot-dog", "cre\u0300me"), ("golden retriever", "Hot Dog ", "cr\u00e8me"), None),
        (("a ", "a"), ("a", "a "), {"a": 0, "a ": 1}),
        (("0 stars", "1 stars"), ("0 stars", "1 stars"), None),
    ],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_folder_gets_the_one_class_of_its_name(folders, labels, matched, legacy):
    expected = {folder: number for number, folder in enumerate(folders)} if matched is None else matched
    assert match_classes(folders, labels, legacy=legacy) == expected


def test_labels_of_the_original_lack_signs_and_capitals():
    assert match_classes(("Rose-A", "c", "c++"), ("rose a", "c", "c "), legacy=True) == {"Rose-A": 0, "c": 1, "c++": 2}
    assert match_classes(("A+", "A-"), ("a ",), legacy=True) == {}
    assert match_classes(("A+",), ("a ", "b"), legacy=False) == {}


def test_a_folder_whose_name_two_classes_have_is_left_out_and_said(mean_colour_backbone, tmp_path):
    graph = exported(mean_colour_backbone, tmp_path / "g.pb")
    (tmp_path / "labels.txt").write_text("red\nblue\nred\n")
    for name, colour in (("red", RED), ("blue", BLUE), ("violet", (200, 0, 200))):
        photo(tmp_path / "photos" / name / "1.png", colour)
    model = model_loading.load(graph, labels=tmp_path / "labels.txt")
    found = evaluate(model, tmp_path / "photos", split=None)
    assert found.paths == ("blue/1.png",)
    assert found.unknown == ("red", "violet")
    assert found.notes == (
        "2 classes of the model go by the name of the folder 'red', left out",
        "the model has no class for the folder 'violet', left out",
    )


def paths_of(folder, rule, split):
    return tuple(example.path for example in scan(folder, rule).examples if example.split is split)


@pytest.fixture
def colours(tmp_path):
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        for number in range(30):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    return tmp_path / "photos"


def split_model(backbone, path, split):
    return model_loading.load(exported(backbone, path, retrain_version="0.2", split=split))


def test_the_split_of_the_training_is_used_and_another_one_is_said(mean_colour_backbone, colours, tmp_path):
    model = split_model(mean_colour_backbone, tmp_path / "g.pb", TrainingSplit(0, 40))
    found = evaluate(model, colours)
    assert found.paths == paths_of(colours, SplitRule(0, 40), Split.TESTING)
    assert found.notes == ()
    found = evaluate(model, colours, rule=SplitRule(10, 10))
    assert found.paths == paths_of(colours, SplitRule(10, 10), Split.TESTING)
    assert found.notes == (
        "the training's split was validation 0 % and testing 40 %, this one is validation 10 % and testing 10 %: "
        "some images may have been trained on",
    )
    assert evaluate(model, colours, split=None, rule=SplitRule(10, 10)).notes == ()


def test_a_split_that_is_not_known_is_assumed_and_said(mean_colour_backbone, colours, tmp_path):
    model = split_model(mean_colour_backbone, tmp_path / "g.pb", None)
    found = evaluate(model, colours)
    assert found.paths == paths_of(colours, SplitRule(10, 10), Split.TESTING)
    assert found.notes == (
        "the model does not say how its photos were split; validation 10 % and testing 10 % is assumed",
    )
    assert evaluate(model, colours, rule=SplitRule(10, 20)).notes == ()


def test_a_folder_that_is_a_split_is_not_that_of_a_training_by_percentages(mean_colour_backbone, tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for name, colour in (("red", RED), ("blue", BLUE)):
            for number in range(count):
                photo(tmp_path / "photos" / part / name / f"{number}.png", colour, seed=10 * count + number)
    by_folders = split_model(mean_colour_backbone, tmp_path / "f.pb", TrainingSplit(10, 10, folders=True))
    layout = "Using your test/ and train/ folders."
    assert evaluate(by_folders, tmp_path / "photos").notes == (layout,)
    by_percent = split_model(mean_colour_backbone, tmp_path / "p.pb", TrainingSplit(10, 10))
    first, note = evaluate(by_percent, tmp_path / "photos").notes
    assert first == layout
    assert "was validation 10 % and testing 10 %, this one is by folders" in note


def test_what_of_a_folder_is_not_used_is_said_first(mean_colour_backbone, colours, tmp_path):
    (colours / "empty").mkdir()
    photo(colours / "loose.png", RED)
    first, second, *_ = evaluate(split_model(mean_colour_backbone, tmp_path / "g.pb", None), colours).notes
    assert first == "No image that can be read, so not a class: 'empty' (empty)."
    assert second.startswith("1 image in no class folder, so not used: 'loose.png'.")


def test_photos_that_were_trained_on_are_left_out_wherever_they_lie_now(mean_colour_backbone, colours, tmp_path):
    rule = SplitRule(10, 40)
    testing = paths_of(colours, rule, Split.TESTING)
    contents = [hashlib.sha256((colours / path).read_bytes()).digest() for path in testing]
    known = TrainingSplit(10, 40).with_contents(contents[:2])
    model = split_model(mean_colour_backbone, tmp_path / "g.pb", known)
    found = evaluate(model, colours)
    assert found.paths == testing[2:]
    assert found.notes == (f"2 images that the model was trained on, left out: {testing[0]}, {testing[1]}",)
    assert set(testing) < set(evaluate(model, colours, split=None).paths)
    model = split_model(mean_colour_backbone, tmp_path / "all.pb", TrainingSplit(10, 40).with_contents(contents))
    with pytest.raises(DatasetError, match="that the model was trained on, left out: .*, ...*--split all"):
        evaluate(model, colours)


def test_a_model_whose_photos_were_grouped_is_evaluated_on_those_that_it_was_tested_on(
    mean_colour_backbone, colours, tmp_path
):
    rule = SplitRule(10, 40)
    by_name, training = paths_of(colours, rule, Split.TESTING), paths_of(colours, rule, Split.TRAINING)
    moved = by_name[0]  # by its group, to training, and others by theirs to testing and to validation
    tested, validated = sorted((*by_name[1:], *training[:2])), training[2:4]
    trained = [(colours / path).read_bytes() for path in (moved, *training[4:])]
    grouped = TrainingSplit(10, 40, group_by="duplicates").with_held_out(validated, tested)
    grouped = grouped.with_contents(hashlib.sha256(content).digest() for content in trained)
    model = split_model(mean_colour_backbone, tmp_path / "g.pb", grouped)
    found = evaluate(model, colours)
    assert found.paths == tuple(tested)
    assert found.notes == ()
    assert set(training[2:4]) <= set(evaluate(model, colours, split=Split.VALIDATION).paths)
    assert set(evaluate(model, colours, split=Split.TRAINING).paths) == {moved, *training[4:]}
    names = (f"{colours.name}/new{number}.png" for number in range(1000))
    folder = colours / by_name[0].partition("/")[0]
    new = next(f"{folder.name}/{n}" for n in names if rule.assign(f"{folder.name}/{n}") is Split.TESTING)
    photo(colours / new, RED, seed=77)
    found = evaluate(model, colours)
    assert set(found.paths) == {*tested, new}
    assert found.notes == ("1 image that the training did not have, taken by name, whatever their groups",)
    unknown = split_model(mean_colour_backbone, tmp_path / "u.pb", TrainingSplit(10, 40, group_by="exif"))
    (note,) = evaluate(unknown, colours).notes
    assert "was validation 10 % and testing 40 %, grouped by exif, this one is" in note
