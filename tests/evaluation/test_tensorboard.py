import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain import head
from retrain.errors import ExportError
from retrain.evaluation.tensorboard import TRAIN, VALIDATION, Summaries, as_records


def read(folder, run):
    """Return tag -> [(step, value)] with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / run), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    histograms = {tag: events.Histograms(tag) for tag in tags["histograms"]}
    return scalars, histograms


def write(folder, seconds=1000):
    with Summaries(folder, clock=lambda: seconds) as summaries:
        curves = {"accuracy": np.linspace(0, 1, 5), "cross_entropy": np.linspace(2, 1, 5)}
        summaries.scalars(TRAIN, np.arange(5), curves)
        curves = {"accuracy": np.array([0.5, 0.75]), "cross_entropy": np.array([1.5, 1.0])}
        summaries.scalars(VALIDATION, np.array([0, 4]), curves)
        weights = np.arange(6, dtype=np.float32).reshape(3, 2)
        summaries.head(4, head.linear(weights, np.zeros(2, np.float32)), np.zeros((4, 3), np.float32))


def test_tensorboard_reads_the_originals_tags(tmp_path):
    write(tmp_path)
    scalars, histograms = read(tmp_path, TRAIN)
    layer = [f"final_training_ops/{part}/summaries" for part in ("weights", "biases")]
    assert set(scalars) == {"accuracy_1", "cross_entropy_1"} | {
        f"{scope}/{measure}_1" for scope in layer for measure in ("mean", "stddev", "max", "min")
    }
    assert set(histograms) == {"activations", "final_training_ops/Wx_plus_b/pre_activations"} | {
        f"{scope}/histogram" for scope in layer
    }
    assert scalars["accuracy_1"] == [(step, pytest.approx(step / 4)) for step in range(5)]
    measured = {"mean": 2.5, "stddev": (35 / 12) ** 0.5, "max": 5, "min": 0}  # of 0 to 5
    for measure, value in measured.items():
        assert scalars[f"final_training_ops/weights/summaries/{measure}_1"] == [(4, pytest.approx(value))]
    histogram = histograms["final_training_ops/weights/summaries/histogram"][0].histogram_value
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 5, 6, 15)
    validation, _ = read(tmp_path, VALIDATION)
    assert validation["accuracy_1"] == [(0, 0.5), (4, 0.75)]


def test_only_event_files_of_retrain_are_replaced(tmp_path):
    write(tmp_path, seconds=1)
    others = [tmp_path / "notes.txt", tmp_path / "train" / "events.out.tfevents.1.elsewhere"]
    for other in others:
        other.write_text("mine")
    write(tmp_path, seconds=2)
    assert all(other.read_text() == "mine" for other in others)
    assert len(list((tmp_path / "train").glob("*.retrain"))) == 1


def test_curves_of_a_run_that_is_under_way_stay(tmp_path):
    with Summaries(tmp_path, clock=lambda: 1) as first:
        with Summaries(tmp_path, clock=lambda: 1) as second:  # at the same second
            assert (first.shared, second.shared) == (False, True)
            second.scalars(TRAIN, np.arange(2), {"accuracy": np.ones(2)})
        first.scalars(TRAIN, np.arange(5), {"accuracy": np.zeros(5)})
    assert len(list((tmp_path / TRAIN).iterdir())) == 2
    with Summaries(tmp_path) as third:
        assert not third.shared
    assert len(list((tmp_path / TRAIN).iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="--summaries_dir"):
        Summaries(tmp_path / "file")


@given(st.lists(st.one_of(st.binary(min_size=57, max_size=57), st.binary(min_size=1, max_size=9)), max_size=20))
def test_many_records_at_once_are_tensorboards_one_after_the_other(contents):
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    for content in contents:
        RecordWriter(file).write(content)
    assert as_records(contents) == file.getvalue()


def test_tensorboard_reads_the_nodes_of_the_graph(tmp_path, mean_colour_backbone):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Summaries(tmp_path) as summaries:
        summaries.graph(mean_colour_backbone.read_bytes())
    events = EventAccumulator(str(tmp_path / TRAIN))
    events.Reload()
    assert "mean_colour" in {node.name for node in events.Graph().node}
