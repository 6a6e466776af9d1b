"""What ends a training early: somebody asks, or its time is over."""

import math
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from conftest import colour_folder

from retrain.backbones import catalogue, families
from retrain.backbones.sources import WeightsRequest
from retrain.bottlenecks.preparation import PreparationSettings, prepare
from retrain.config import RetrainConfig
from retrain.data.dataset import scan
from retrain.data.distortions import Distortions
from retrain.data.variants import Distorter
from retrain.history import Evaluation
from retrain.pipeline import retrain
from retrain.session import Session
from retrain.stopping import Stopping, is_over
from retrain.terminal import Terminal
from retrain.time_limit import LEAST_SECONDS, Reserve, TimeLimit, of_the_head


def test_without_a_deadline_the_steps_are_the_progress():
    seen = []
    stopping = Stopping(watch=lambda step, progress: seen.append((step, progress)))
    assert [stopping.progress(0.0, step, 4) for step in (0, 1, 4, 5)] == [0, 0.25, 1, 1]
    assert seen == [(0, 0), (1, 0.25), (4, 1), (5, 1)]


def test_with_a_deadline_the_time_is_the_progress_however_many_steps():
    now = time.monotonic()
    assert Stopping(deadline=now).progress(now - 10, 1, 10**9) == 1
    assert Stopping(deadline=now - 10).progress(now + 10, 0, 10**9) == 1  # it was over before the first step
    assert Stopping(deadline=now + 1000).progress(now - 1000, 10**9, 1) == pytest.approx(0.5, abs=0.05)


def test_who_is_asked_to_stop_has_done_all_and_shows_no_more():
    seen = []
    stopping = Stopping(watch=lambda step, progress: seen.append(step))
    stopping.asked.set()
    assert stopping.progress(0.0, 1, 100) == 1
    assert not seen


@pytest.mark.parametrize("trainings", [1, 3])
def test_what_is_left_is_divided_fairly(trainings):
    limit, reserve = TimeLimit(time.monotonic() + 1000), Reserve(each=5, end=100)
    found = limit.deadline(reserve, trainings=trainings) - time.monotonic()
    assert found == pytest.approx(900 / trainings - 5, abs=1)
    assert not limit.is_over(reserve)


def test_without_a_limit_nothing_is_ever_over():
    limit = TimeLimit.of(None, None)
    assert limit.deadline(Reserve(), trainings=2) is None
    assert not limit.is_over(Reserve(each=1e9))
    assert limit.exceeded() == -math.inf
    assert of_the_head(None, is_tuned=True) is None
    assert not is_over(None)


def test_the_limit_is_the_command_s_and_not_the_call_s():
    now = time.monotonic()
    assert TimeLimit.of(60, now - 50).end == now + 10
    assert TimeLimit.of(60, None).end >= now + 60


def test_the_last_layer_gets_half_of_the_time_before_a_fine_tuning_and_never_none():
    now = time.monotonic()
    assert of_the_head(now + 1000, is_tuned=True) - now == pytest.approx(500, abs=1)
    assert of_the_head(now + 1000, is_tuned=False) - now == pytest.approx(1000, abs=1)
    assert of_the_head(now - 1000, is_tuned=True) >= now + LEAST_SECONDS


def test_the_heads_of_folds_share_the_time_of_the_last_layer():
    now = time.monotonic()
    assert of_the_head(now + 1000, is_tuned=False, folds=4) - now == pytest.approx(200, abs=1)
    assert of_the_head(now + 1000, is_tuned=True, folds=3) - now == pytest.approx(200, abs=1)
    assert Stopping(deadline=now).earlier(30).deadline == now - 30
    assert Stopping().earlier(30).deadline is None


def test_more_to_do_afterwards_keeps_more_time(tmp_path, mean_colour_backbone):
    photos = scan(colour_folder(tmp_path / "photos", per_class=2))
    spec = replace(catalogue.find(str(mean_colour_backbone)), target="mean_colour")
    source, settings = (
        families.locate(spec, WeightsRequest(tmp_path)),
        PreparationSettings(tmp_path / "b", Distorter(Distortions(), 0)),
    )
    slow = TimeLimit(time.monotonic() + 1000, tensorflow=100)  # its start takes longer than all photos
    with ExitStack() as opened:
        prepared = prepare(photos, source, settings, None, terminal=Terminal(quiet=True), opened=opened)

        def kept(limit, is_tuned, *exports):
            return limit.reserve([prepared], is_tuned=is_tuned, exports=exports, tests=3)

        nothing, tuned, exported = kept(slow, False), kept(slow, True), kept(slow, False, "onnx")
        assert nothing.each == exported.each == 0
        assert tuned.each > 50
        assert nothing.end < 10 < tuned.end < exported.end < kept(slow, True, "onnx").end
        assert exported.end < kept(slow, False, "onnx", "keras").end < kept(slow, False, "onnx", "saved_model").end
        assert kept(replace(slow, tensorflow=200), True, "onnx").end > 1.5 * kept(slow, True, "onnx").end
        assert kept(TimeLimit(), True, "onnx") == nothing


ROW = Evaluation(-1, math.nan, math.nan, 0.5, 1.0, 10)


def test_ctrl_c_is_heeded_from_the_first_evaluation_until_the_end_of_a_fine_tuning():
    seen = []

    @contextmanager
    def heed(asked):
        seen.append("heeded")
        yield
        seen.append("as ever")

    with ExitStack() as opened:
        session = Session(Terminal(quiet=True), opened, heed=heed)
        with session.stoppable(seen.append) as report:
            assert not seen
            report(ROW)
            report(ROW)
            assert seen == ["heeded", ROW, ROW]
    assert seen[-1] == "as ever"


def test_the_same_limited_training_gives_the_same_graph_if_there_is_time(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=6)
    graphs = []
    for limit in (None, 3600):
        config = RetrainConfig(
            image_dir=tmp_path / "photos", architecture=str(mean_colour_backbone), bottleneck_tensor="mean_colour",
            how_many_training_steps=50, time_limit=limit, output_graph=tmp_path / "g.pb",
            output_labels=tmp_path / "l.txt", summaries_dir=tmp_path / "s", bottleneck_dir=tmp_path / "b",
        )  # fmt: skip
        retrain(config)
        graphs.append((tmp_path / "g.pb").read_bytes())
    assert graphs[0] == graphs[1]
