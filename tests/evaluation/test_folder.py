import numpy as np
import pytest
from builders import exported
from conftest import colour_folder, photo

from retrain.data.split import Split
from retrain.errors import DatasetError
from retrain.evaluation.folder import evaluate
from retrain.inference import loading as model_loading

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
