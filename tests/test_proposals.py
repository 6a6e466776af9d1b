"""What a look at photos proposes is carried out, leaves nothing of that to find, and is reverted."""

import io

import numpy as np
import pytest
from builders import terminal
from PIL import Image

from retrain import checking
from retrain.config import RetrainConfig
from retrain.data import marks, marks_applying
from retrain.data.marks import Action

POOR = {"a/dark.png": (9, 2, 4), "a/bright.png": (250, 250, 250), "b/empty.png": (160, 150, 155)}


@pytest.mark.slow
def test_proposals_that_are_carried_out_leave_nothing_to_find_and_undone_all_is_found_again(
    tmp_path, mean_colour_backbone
):
    photos = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in "ab":
        (photos / name).mkdir(parents=True)
        for number in range(12):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
            coarse.resize((24, 24), Image.Resampling.NEAREST).save(photos / name / f"{number}.png")
    for path, colour in POOR.items():
        Image.new("RGB", (24, 24), colour).save(photos / path)
    buffer = io.BytesIO()
    coarse.save(buffer, "PNG")
    (photos / "b" / "cut.png").write_bytes(buffer.getvalue()[:60])
    written = checking.Written(tmp_path / "out" / "check_images.html")
    network = {"architecture": str(mean_colour_backbone), "bottleneck_tensor": "mean_colour"}
    config = RetrainConfig(photos, bottleneck_dir=tmp_path / "bottlenecks", **network)

    def look():
        found = checking.check(config, written, "--page", terminal()[0]).findings
        return {path for finding in found if finding.kind == "quality" for path in finding.photos}

    assert look() == {*POOR, "b/cut.png"}
    before = [file.read_bytes() for file in (written.page, written.figures, written.marks)]
    proposed = marks.read(written.marks)
    assert {mark.path for mark in proposed.marks if mark.action is Action.REMOVE} == {*POOR, "b/cut.png"}
    outcome = marks_applying.apply(photos, proposed)
    assert look() == set()
    assert marks_applying.undo(photos, *outcome.lists).done == outcome.done
    assert look() == {*POOR, "b/cut.png"}
    assert [file.read_bytes() for file in (written.page, written.figures, written.marks)] == before
