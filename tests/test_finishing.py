"""The end of a run, where something of it cannot be written."""

import json

import pytest
from conftest import colour_folder

from retrain.config import RetrainConfig
from retrain.errors import ExportError
from retrain.evaluation import report as reports
from retrain.pipeline import retrain

pytestmark = pytest.mark.slow


def test_summaries_that_cannot_be_written_cost_no_report(tmp_path, mean_colour_backbone):
    config = RetrainConfig(
        image_dir=colour_folder(tmp_path / "photos"), architecture=str(mean_colour_backbone),
        bottleneck_tensor="mean_colour", how_many_training_steps=60, output_graph=tmp_path / "g.pb",
        output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s", bottleneck_dir=tmp_path / "b",
        intermediate_output_graphs_dir=tmp_path / "i",
    )  # fmt: skip
    config.summaries_dir.mkdir()
    (config.summaries_dir / "test").write_text("a file in the place of a folder")
    with pytest.raises(ExportError, match="--summaries_dir"):
        retrain(config)
    page, figures = reports.report_paths(config.output_graph)
    assert page.is_file()
    assert json.loads(figures.read_bytes())["test_accuracy"] == 1.0
