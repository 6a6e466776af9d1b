"""A look at folders that nobody meant to be looked at: true sentences of one line each, or one line that says why."""

import shutil

import numpy as np
import pytest
from builders import terminal
from PIL import Image

from retrain import checking
from retrain.config import RetrainConfig
from retrain.data import marks, marks_applying
from retrain.errors import DatasetError

pytestmark = pytest.mark.slow
ODD = [
    "a\nb",
    "it's",
    'say "hi"',
    "100% %s {x} {{",
    "ünï ☃ 日本",
    "tab\there",
    "<b>&amp;",
    "-rf",
    "\x1b[31mred",
    "\udcff",
]
ODD += ["' onload='x", "#1?x=2", "..a", "c" * 200]


@pytest.fixture
def look(tmp_path, mean_colour_backbone):
    """Return a function that looks at a folder and returns sentences, and where findings are written."""
    written = checking.Written(tmp_path / "out" / "check_images.html")
    network = {"architecture": str(mean_colour_backbone), "bottleneck_tensor": "mean_colour"}
    config = RetrainConfig(tmp_path / "photos", bottleneck_dir=tmp_path / "bottlenecks", **network)

    def look():
        sentences = [each.sentence for each in checking.check(config, written, "--page", terminal()[0]).findings]
        assert written.page.read_bytes()
        return sentences

    return look, written


def textured(path, seed):
    """Write a picture like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((48, 48), Image.Resampling.NEAREST).save(path)
    return path


def test_names_with_signs_of_every_language_are_shown_marked_moved_and_moved_back(look, tmp_path):
    look, written = look
    photos = tmp_path / "photos"
    for number, name in enumerate(ODD):
        first = textured(photos / "li\nne 'x' %s" / f"{name}.png", number)
        (photos / '"日本"').mkdir(exist_ok=True)
        textured(photos / '"日本"' / f"{name}.png", 100 + number)
        shutil.copy(first, first.with_name(f"{name} again.png"))
    (photos / '"日本"' / "bro\nken.png").write_bytes(b"no photo")
    sentences = look()
    assert [each for each in sentences if "\n" in each or "\x1b" in each] == []
    before = [file.read_bytes() for file in (written.page, written.figures, written.marks)]
    assert b"onload='x" not in before[0]
    proposed = marks.read(written.marks)
    assert len(proposed.marks) == len(ODD) + 1
    outcome = marks_applying.apply(photos, proposed)
    assert (outcome.done.total(), outcome.gone) == (len(ODD) + 1, [])
    assert not [each for each in look() if "cop" in each or "can be read" in each]
    marks_applying.undo(photos, *outcome.lists)
    look()
    assert [file.read_bytes() for file in (written.page, written.figures, written.marks)] == before


def test_folders_of_hardly_any_photos_have_too_few(look, tmp_path):
    look, _ = look
    for number in range(2):
        textured(tmp_path / "photos" / "ab"[number] / "1.png", number)
    few = "Too few to learn from and to test on: 1 photo of 'a', 1 photo of 'b'."
    assert [each.partition(" Take")[0] for each in look()] == [few]
    for number in range(2, 30):
        textured(tmp_path / "photos" / "b" / f"{number}.png", number)
    assert f"{few.partition(',')[0]}." in [each.partition(" Take")[0] for each in look()]


def test_the_same_photo_everywhere_is_a_copy_and_no_wrong_label(look, tmp_path):
    look, written = look
    for number in range(24):
        textured(tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png", 0)
    sentences = look()
    assert any("such as a/00.png and b/01.png" in each for each in sentences)
    assert not [each for each in sentences if "look like" in each]
    assert marks.read(written.marks).marks == []


@pytest.mark.parametrize(("classes", "said"), [("a", "has only one class folder"), ("ab", "no readable image")])
def test_what_is_no_set_of_photos_is_said_in_one_line(classes, said, look, tmp_path):
    look, written = look
    for name in classes:
        if len(classes) == 1:
            textured(tmp_path / "photos" / name / "1.png", 1)
        else:
            (tmp_path / "photos" / name).mkdir(parents=True)
            (tmp_path / "photos" / name / "1.png").write_bytes(b"no photo")
    with pytest.raises(DatasetError, match=said) as error:
        look()
    assert "\n" not in str(error.value)
    assert not written.page.exists()
