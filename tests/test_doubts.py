"""What a report says of photos that touch its figures, by whole runs on real files."""

import json
import shutil

import pytest
from builders import terminal
from conftest import photo

from retrain.config import RetrainConfig
from retrain.pipeline import retrain

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, mean_colour_backbone):
    """Return a function that trains on the photos of a folder, split already, and returns report and warnings."""
    for part, count in (("train", 8), ("test", 16)):
        for number in range(count):
            for name, place in (("dark", 40), ("light", 180)):
                colour = (place + 4 * number, place, place + 20 * len(part))
                photo(tmp_path / "photos" / part / name / f"{number}.png", colour, seed=number + 100 * len(part))

    def run(**settings):
        shown, _, warned = terminal()
        config = RetrainConfig(
            tmp_path / "photos",
            architecture=str(mean_colour_backbone),
            bottleneck_tensor="mean_colour",
            bottleneck_dir=tmp_path / "bottlenecks",
            output_graph=tmp_path / "out" / "g.pb",
            output_labels=tmp_path / "out" / "l.txt",
            summaries_dir=tmp_path / "summaries",
            **{"how_many_training_steps": 20, **settings},
        )
        return retrain(config, shown), warned.getvalue()

    return run


def test_a_test_photo_that_is_trained_on_is_said_with_the_accuracy_without_it(run, tmp_path):
    photos = tmp_path / "photos"
    shutil.copy(photos / "train" / "light" / "5.png", photos / "test" / "dark" / "copy.png")  # and in a wrong class
    report, warned = run()
    (finding,) = [each for each in report.findings if each.kind == "leakage"]
    assert "test/dark/copy.png" in finding.photos
    assert finding.figures["accuracy"] < finding.figures["accuracy_without"] == 1
    assert report.test_accuracy == pytest.approx(finding.figures["accuracy"])
    assert finding.sentence in warned
    written = (tmp_path / "out" / "g.report.json").read_bytes()
    assert finding.sentence in [each["sentence"] for each in json.loads(written)["findings"]]
    page = (tmp_path / "out" / "g.report.html").read_text()
    assert finding.sentence in page
    assert "test/dark/copy.png" in page
    assert "shows the photos, and looks for more" in page
    run()  # by what was kept
    assert (tmp_path / "out" / "g.report.json").read_bytes() == written


def test_what_gives_classes_away_is_said_with_what_else_touches_the_figures(run, tmp_path):
    for number in range(3):
        for name, place in (("dark", 180), ("light", 40)):  # each is the other
            photo(tmp_path / "photos" / "test" / name / f"wrong{number}.png", (place, place, place), seed=number)
    report, warned = run(how_many_training_steps=2000)
    shortcuts = [each for each in report.findings if each.kind == "shortcut"]
    assert "colour" in [each.figures["property"] for each in shortcuts]
    assert len(shortcuts) > 1
    (wrong,) = [each for each in report.findings if each.kind == "label"]
    assert all("wrong" in path for path in wrong.photos)
    gained = wrong.figures["accuracy_if_wrong"] - wrong.figures["accuracy"]
    assert report.test_accuracy == pytest.approx(wrong.figures["accuracy"])
    assert gained == pytest.approx(len(wrong.photos) / 38)
    severities = [each.severity for each in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert [each.kind for each in report.findings if each.sentence in warned] == [
        each.kind for each in report.findings if each in (shortcuts[0], wrong)
    ]  # the worst of each kind
    page = (tmp_path / "out" / "g.report.html").read_text()
    assert all(each.sentence.partition(":")[0] in page for each in report.findings)
    assert run(how_many_training_steps=2000)[0].findings == report.findings


def test_distorted_copies_and_time_limits_leave_no_time_for_it(run, tmp_path):
    photos = tmp_path / "photos"
    shutil.copy(photos / "train" / "light" / "5.png", photos / "test" / "light" / "copy.png")
    assert run(time_limit=600)[0].findings == []
    assert run(flip_left_right=True, distortion_copies=2)[0].findings == []
