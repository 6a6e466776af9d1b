"""The child process that scores a file."""

import numpy as np
import pytest
from builders import exported
from conftest import photo

from retrain.evaluation.fresh_process import score_file
from retrain.inference import loading, prediction


@pytest.mark.slow
def test_a_fresh_process_gives_the_probabilities_of_this_one(mean_colour_backbone, tmp_path):
    graph = exported(mean_colour_backbone, tmp_path / "g.pb")
    images = [photo(tmp_path / f"{number}.png", colour) for number, colour in enumerate([(255, 0, 0), (9, 9, 200)])]
    here = [row.probabilities for row in prediction.predict_probabilities(loading.load(graph), images)]
    scores = score_file(graph, images)
    np.testing.assert_allclose(scores.probabilities, np.stack(here), atol=1e-6)
    assert scores.milliseconds > 0
