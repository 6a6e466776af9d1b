import dataclasses
import json

import numpy as np
import pytest
from conftest import ROOT, command
from hypothesis import given
from hypothesis import strategies as st
from scripts.scale.__main__ import main
from scripts.scale.figures import AHEAD, BATCH, READERS, Figures, draw_shards
from scripts.scale.simulation import Driver, Fleet, simulate

from retrain.bottlenecks import photos
from retrain.errors import RetrainError, UsageError

FREE = Driver(answer=0, listers=1, page=0, cut=0, merge=0)
FIGURES = Figures(
    reading=[0.01], handling=0.001, computing=[0.004], committing=[0.1], opening=5, answer=0.1, page=0.02, cut=0.01,
    merge=0.02,
)  # fmt: skip


def timeline(seconds, fleet, driver=FREE, folders=None, seed=0):
    return simulate(folders or [len(seconds)], np.array(seconds), fleet, driver, np.random.default_rng(seed))


shards = st.lists(st.floats(0.01, 100), min_size=1, max_size=20)


def test_a_small_cluster_by_hand():
    # The pages are there after 1.5, 3 and 4.5 s, and each is cut in another half; the worker opens at 5, has two
    # shards at once, and gets the third one when the first is merged, at 17.
    driver = Driver(answer=1, listers=1, page=0.5, cut=0.5, merge=2)
    found = timeline([10, 10, 10], Fleet(nodes=1, cores=4, opening=5), driver)
    assert (found.listed, found.first, found.merged) == (4.5, 17, 37)
    assert found.commits.tolist() == [15, 25, 35]
    assert (found.driving, found.merging, found.worked, found.paid) == (3 * 1 + 2 * 2, 4, 30, 35)
    assert (found.backlog, found.repeated) == (1, 0)


def test_a_driver_that_merges_slowly_keeps_workers_waiting():
    driver = dataclasses.replace(FREE, merge=5)
    found = timeline([1] * 100, Fleet(nodes=10, cores=4), driver)
    assert found.merged == 1 + 100 * 5
    assert found.merging > 0.99 * found.commits[-1] - 5
    assert found.backlog <= 20  # two of each worker
    assert found.worked < 0.1 * found.paid


def test_folders_are_listed_in_parallel_and_a_folder_page_by_page():
    driver = Driver(answer=1, listers=4, page=0, cut=0, merge=0)
    fleet = Fleet(nodes=8, cores=4)
    assert timeline([0.1] * 40, fleet, driver).listed == 40
    assert timeline([0.1] * 40, fleet, driver, folders=[10] * 4).listed == 10
    assert timeline([0.1] * 40, fleet, driver).first == pytest.approx(1.1)  # long before all is listed


@given(st.integers(1, 20), st.integers(1, 9))
def test_more_nodes_are_never_slower(count, nodes):
    fewer, more = (timeline([7] * count, Fleet(number, cores=4)).merged for number in (nodes, nodes + 1))
    assert more <= fewer


@given(shards, st.integers(1, 12))
def test_workers_end_together_but_for_what_they_hold(seconds, nodes):
    share = sum(seconds) / nodes
    assert share - 1e-9 <= timeline(seconds, Fleet(nodes, cores=4)).merged <= share + 2 * max(seconds) + 1e-9


@given(shards, st.integers(1, 8), st.integers(0, 60), st.integers(0, 3))
def test_each_shard_is_committed_and_merged_once_whatever_is_lost(seconds, nodes, losses, seed):
    fleet = Fleet(nodes, cores=4, opening=0.5, losses=losses, replacing=2)
    found = timeline(seconds, fleet, dataclasses.replace(FREE, merge=0.01), seed=seed)
    assert len(found.commits) == len(seconds)
    assert found.worked == pytest.approx(sum(seconds))
    assert found.paid <= nodes * found.commits[-1] + 1e-6
    assert found.worked <= found.paid + 1e-6
    assert found.first <= found.merged
    assert found.merging <= found.driving + 1e-9


def test_lost_nodes_cost_time_and_what_was_in_progress():
    steady, lossy = (
        timeline([10] * 200, Fleet(4, cores=4, losses=losses, replacing=60, opening=5), seed=1) for losses in (0, 20)
    )
    assert steady.repeated == 0
    assert 0 < lossy.repeated < 40
    assert lossy.merged > steady.merged
    assert lossy.paid < 4 * lossy.commits[-1]  # nobody pays for a node that is away


def test_slow_nodes_take_fewer_shards_and_end_late():
    even, uneven = (timeline([10] * 400, Fleet(10, cores=4, slow=0.1, slowdown=by)) for by in (1, 5))
    assert even.merged == 400
    # As fast as 9.2 nodes, but for the two shards that the slow node holds at the end.
    assert even.merged < uneven.merged <= 4000 / 9.2 + 2 * 50


def test_the_same_seed_gives_the_same_timeline():
    fleet = Fleet(3, cores=4, losses=50, replacing=5)
    one, same, other = (timeline([5] * 50, fleet, seed=seed) for seed in (1, 1, 2))
    assert one.merged == same.merged
    assert (one.commits == same.commits).all()
    assert one.merged != other.merged


def test_commits_a_second_are_those_of_the_busiest_seconds():
    found = timeline([1] * 40, Fleet(20, cores=4))
    assert found.commits_per_second(window=0.5) == 40
    assert found.commits_per_second(window=10) == 4


def test_a_shard_takes_what_computing_takes_where_reading_is_fast():
    seconds = draw_shards(FIGURES, 10, 4, np.random.default_rng(0))
    # The first batch is read before anything is computed, 32 photos at once.
    assert seconds == pytest.approx(4 * 0.01 + 1000 * 0.005 / 4 + 0.1, rel=1e-4)


def test_a_shard_takes_what_reading_takes_where_that_is_slow():
    seconds = draw_shards(FIGURES, 10, 4, np.random.default_rng(0), round_trip=4.99)
    # Two threads read four batches each; the last two, of 128 and 104 photos, are computed at the end.
    assert seconds == pytest.approx(4 * 4 * 5 + (128 + 104) * 0.005 / 4 + 0.1 + 3 * 4.99, rel=1e-4)


def test_a_few_slow_answers_make_whole_batches_late():
    some = dataclasses.replace(FIGURES, reading=[0.0] * 99 + [1.0], computing=[0.0])
    seconds = draw_shards(some, 2000, 4, np.random.default_rng(0))
    # One photo of a hundred: of 128, one is late in 72 % of the batches, and two threads read eight of them.
    assert seconds.mean() > 4 * 0.72
    assert seconds.mean() < 8


def test_photos_are_read_as_workers_read_them():
    assert (BATCH, READERS, AHEAD) == (photos._BATCH, photos._BATCHES, 2 * photos._BATCHES)


def test_shards_vary_as_what_was_measured():
    uneven = dataclasses.replace(FIGURES, computing=[0.001] * 99 + [1.0])
    seconds = draw_shards(uneven, 2000, 4, np.random.default_rng(0))
    assert seconds.mean() == pytest.approx(1000 * (0.001 + 0.01099) / 4, rel=0.1)
    assert seconds.std() > 0.5  # ten photos a shard, more or less, take a second each


@pytest.mark.slow
def test_clusters_are_simulated_from_the_figures_of_an_earlier_run(tmp_path):
    (tmp_path / "scale.json").write_text(json.dumps({"figures": dataclasses.asdict(FIGURES)}))
    words = [f"--figures={tmp_path}/scale.json", "--photos", "100000", "--folders=100", "--nodes", "1", "1000"]
    words += ["--round_trip=0", "--losses_per_hour=0", "--slow_share=0"]
    lines = command("python", "-m", "scripts.scale", *words, cwd=ROOT).stdout.splitlines()
    one, many = ([cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| 0.1 M"))
    # A shard takes 1.25 s to compute, after 0.04 s in which its first photos are read, and 0.1 s for its commit.
    minutes = (FIGURES.opening + 100 * 1.39) / 60
    assert one[3] == f"{minutes:.1f} min"
    assert float(one[-3]) == pytest.approx(minutes * 4 * 0.04 / 60, abs=0.006)
    assert one[-2] == "workers"
    assert many[2] == "1,000"
    assert float(many[-3]) > float(one[-3])  # nine of ten nodes get nothing to do


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--figures=no.json"], RetrainError, "no.json holds no figures"),
        (["--data=nowhere"], RetrainError, "there is no folder nowhere/datasets/flowers_1100"),
        (["--nodes", "0"], UsageError, "--nodes is 0; it must be at least 1"),
        (["--slow_share=nan"], UsageError, "--slow_share is nan; it must be at least 0"),
        (["--folders=2000", "--photos", "1000"], UsageError, "--folders 2000 are more than --photos 1000"),
    ],
)
def test_what_cannot_be_measured_or_simulated_is_one_line(words, kind, said):
    with pytest.raises(kind, match=said) as error:
        main(words)
    assert error.type is kind  # which decides the exit code
    assert len(str(error.value).splitlines()) == 1
