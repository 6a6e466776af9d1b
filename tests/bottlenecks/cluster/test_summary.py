import time

from retrain.bottlenecks.cluster import summary
from retrain.bottlenecks.cluster.parts import STAGES, Commit


def commit(seconds):
    times = dict.fromkeys(STAGES, seconds)
    return Commit("id", "part", "", "photos", variants=1, rejected={}, seconds=times, took=1, node="", time=0)


def test_the_last_line_has_the_speed_of_nodes_and_the_time_of_stages():
    total = summary.Summary()
    total.add(commit(1.5), "b", photos=100)
    total.add(commit(2), "a", photos=300)
    assert total.text(10, 0.5) == (
        "Cluster: 400 photos in 10.0 s on 2 nodes, 40 photos/s (a 30, b 10); listing 0.5 s, in all threads together "
        "reading 3.5 s, decoding 3.5 s, computing 3.5 s, writing 3.5 s."
    )


def test_very_many_nodes_are_not_all_named():
    total = summary.Summary()
    for number in range(1000):
        total.add(commit(1), f"node{number}", photos=1000 - number)
    assert "node7 99 and 992 more)" in total.text(10, 0)


def test_nodes_are_told_of_once_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    total = summary.Summary()
    total.add(commit(1), "a", photos=610)
    assert total.news() == ""
    now[0] = 61
    assert total.news() == "Photos a second on 1 node: a 10."
    assert total.news() == ""
