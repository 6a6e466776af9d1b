"""What a look at photos finds and writes, on real files and a network that sees colours."""

import json
import sys

import numpy as np
import pytest
from builders import terminal
from conftest import colour_folder
from scenes import faultless_folder

from retrain import checking
from retrain.config import RetrainConfig
from retrain.data import marks, marks_applying
from retrain.data.marks import Action, Mark
from retrain.doctor import near_index
from retrain.errors import CheckError, ExportError

pytestmark = pytest.mark.slow


@pytest.fixture
def look(tmp_path, mean_colour_backbone):
    """Return a function that looks at the photos in a folder, and what it writes."""
    written = checking.Written(tmp_path / "out" / "check_images.html")

    def look(**settings):
        config = RetrainConfig(
            tmp_path / "photos",
            architecture=str(mean_colour_backbone),
            bottleneck_tensor="mean_colour",
            bottleneck_dir=tmp_path / "bottlenecks",
            **settings,
        )
        return checking.check(config, written, "--page", terminal()[0])

    return look, written


def test_what_cannot_be_read_is_found_written_and_can_be_taken_out(look, tmp_path):
    look, written = look
    folder = faultless_folder(tmp_path / "photos")
    (folder / "a" / "cut.png").write_bytes((folder / "a" / "3.png").read_bytes()[:60])
    (folder / "b" / "empty.jpg").write_bytes(b"")
    examination = look()
    (finding,) = examination.findings
    assert finding.sentence.startswith("2 of 52 files cannot be read as photos, such as a/cut.png. Replace them")
    figures = json.loads(written.figures.read_bytes())
    assert (figures["photos"], figures["classes"]) == (50, 2)
    assert [(row["kind"], row["photos"]) for row in figures["findings"]] == [("quality", ["a/cut.png", "b/empty.jpg"])]
    assert figures["findings"][0]["figures"]["reasons"]["b/empty.jpg"] == "empty file"
    page = written.page.read_text()
    assert all(text in page for text in (finding.sentence, "a/cut.png", "proposed: remove", str(written.marks)))
    proposed = marks.read(written.marks)
    assert proposed.marks == [Mark("a/cut.png", Action.REMOVE), Mark("b/empty.jpg", Action.REMOVE)]
    marks_applying.apply(folder, proposed)
    assert look().findings == []
    assert "nothing found" in written.page.read_text()
    assert marks.read(written.marks).marks == []


def test_the_same_photos_give_the_same_bytes_and_distortions_change_nothing(look, tmp_path):
    look, written = look
    folder = colour_folder(tmp_path / "photos", per_class=6)
    (folder / "cyan" / "empty.jpg").write_bytes(b"")
    files = (written.page, written.figures, written.marks)
    first = look()
    before = [file.read_bytes() for file in files]
    second = look(flip_left_right=True, random_crop=10)
    assert [file.read_bytes() for file in files] == before
    np.testing.assert_array_equal(first.photos.labels, second.photos.labels)


def test_too_many_photos_for_what_is_installed_are_refused_before_the_work(look, tmp_path, monkeypatch):
    look, _ = look
    colour_folder(tmp_path / "photos")
    monkeypatch.setattr(near_index, "MANY", 50)
    monkeypatch.setitem(sys.modules, "usearch", None)
    for settings in ({}, {"group_by": "exif"}):
        with pytest.raises(CheckError, match="^60 photos are too many"):
            look(**settings)
    assert not (tmp_path / "bottlenecks").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("marks", "my notes", "file of marks"),
        ("figures", '{"name": "package"}', "JSON file of findings"),
        ("page", "<!doctype html><title>my site</title>", "page of retrain"),
    ],
)
def test_a_file_of_the_user_in_the_way_is_refused_before_the_work(look, tmp_path, name, content, kind):
    look, written = look
    colour_folder(tmp_path / "photos", per_class=2)
    theirs = getattr(written, name)
    theirs.parent.mkdir()
    theirs.write_text(content)
    with pytest.raises(ExportError, match=f"no {kind} is there"):
        look()
    assert theirs.read_text() == content
    assert not (tmp_path / "bottlenecks").exists()
