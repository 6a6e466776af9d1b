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
    for part, count in (("train", 8), ("test", 18)):
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
            how_many_training_steps=20,
            **settings,
        )
        return retrain(config, shown), warned.getvalue()

    return run


def test_a_test_photo_that_is_trained_on_is_said_with_the_accuracy_without_it(run, tmp_path):
    photos = tmp_path / "photos"
    shutil.copy(photos / "train" / "light" / "5.png", photos / "test" / "dark" / "copy.png")  # and in a wrong class
    report, warned = run()
    (finding,) = [each for each in report.findings if "test photo" in each.sentence]
    assert finding.kind == "leakage"
    assert "test/dark/copy.png" in finding.photos
    assert finding.figures["accuracy"] < finding.figures["accuracy_without"] == 1
    assert report.test_accuracy == pytest.approx(finding.figures["accuracy"])
    assert finding.sentence in warned
    written = (tmp_path / "out" / "g.report.json").read_bytes()
    assert json.loads(written)["findings"][0]["sentence"] == finding.sentence
    page = (tmp_path / "out" / "g.report.html").read_text()
    assert finding.sentence in page
    assert "test/dark/copy.png" in page
    run()  # by what was kept
    assert (tmp_path / "out" / "g.report.json").read_bytes() == written


def test_distorted_copies_and_time_limits_leave_no_time_for_it(run, tmp_path):
    photos = tmp_path / "photos"
    shutil.copy(photos / "train" / "light" / "5.png", photos / "test" / "light" / "copy.png")
    assert run(time_limit=600)[0].findings == []
    assert run(flip_left_right=True, distortion_copies=2)[0].findings == []
