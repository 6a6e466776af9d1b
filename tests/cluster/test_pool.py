"""A real Ray of three nodes on this machine, whose workers and nodes are killed."""

import os
import threading
import time
from contextlib import contextmanager

import pytest
from cluster_work import TryLaterError, open_badly, open_elsewhere, open_worker, open_wrongly
from ray_nodes import ray_nodes

import retrain
from retrain.cluster import scheduling
from retrain.cluster.pool import Task, open_cluster
from retrain.errors import ClusterError, RetrainError

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """Three nodes, on which four workers fit: of one, twice three, and one core."""
    soon = {"RAY_health_check_period_ms": "500"}  # until a dead node is noticed
    with ray_nodes((1, 6, 1), soon) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(nodes):
    with open_cluster(nodes.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def lone(nodes, cluster):
    """The same cluster with one worker, which is there sooner."""
    with open_cluster(nodes.address, most=1) as opened:
        yield opened


def results(cluster, values, open_=open_worker):
    """Run tasks with these values; return their outcomes by number, each of which came once."""
    found = list(cluster.run(open_, {}, (Task(str(number), value) for number, value in enumerate(values))))
    by_number = {int(outcome.task.name): outcome for outcome in found}
    assert len(by_number) == len(found)
    return by_number


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def meanwhile(action):
    """Run something in a thread, and wait for its end."""
    thread = threading.Thread(target=action)
    thread.start()
    yield
    thread.join()


def test_every_core_group_of_every_node_works_and_gets_what_is_shared(cluster, tmp_path):
    """Four workers, and two tasks wait at each until all are there."""

    def release():
        until(lambda: len(list(tmp_path.iterdir())) == 4)
        (tmp_path / "go").touch()

    with meanwhile(release):
        todo = [Task(str(number), ("meet", tmp_path, tmp_path / "go")) for number in range(8)]
        found = [outcome.result for outcome in cluster.run(open_worker, {"network": b"bytes"}, todo)]
    about = {worker["pid"]: worker for worker in found}
    assert os.getpid() not in about
    assert sorted(worker["cores"] for worker in about.values()) == [1, 1, 3, 3]
    assert len({worker["node"] for worker in about.values()}) == 3
    assert all(worker["shared"] == {"network": b"bytes"} for worker in found)


def test_tasks_of_killed_workers_are_done_by_others_and_a_poisoned_one_costs_itself(cluster, tmp_path):
    values = [("echo", number) for number in range(300)]
    values[50:200:15] = [("die_once", tmp_path / str(number)) for number in range(10)]
    values[120] = ("die",)
    found = results(cluster, values)
    assert sorted(found) == list(range(300))
    for number, value in enumerate(values):
        outcome = found[number]
        if value[0] == "die":
            assert (outcome.result, outcome.attempt) == (None, 3)
            assert "ended" in outcome.failure
            assert "\n" not in outcome.failure
        else:
            assert outcome.failure is None
            assert outcome.result == ("survived" if value[0] == "die_once" else number)
            assert outcome.attempt <= 3


def test_errors_are_tried_again(cluster, tmp_path):
    folders = [tmp_path / str(number) for number in range(5)]
    for folder in folders:
        folder.mkdir()
    found = results(
        cluster,
        [
            ("raise", OSError("gone\nfor long"), 2, folders[0]),
            ("raise", OSError("gone\nfor long"), 3, folders[1]),
            ("raise", TryLaterError("busy"), 1, folders[2]),
            ("unpicklable",),
            ("exit",),
        ],
    )
    ends = {number: (outcome.result, outcome.failure, outcome.attempt) for number, outcome in found.items()}
    assert ends[0] == ("well", None, 3)
    assert ends[1] == (None, "gone", 3)
    assert ends[2] == ("well", None, 2)
    for number in (3, 4):
        result, failure, attempt = ends[number]
        assert (result, attempt) == (None, 3)
        assert failure
        assert "\n" not in failure


def test_what_the_user_must_mend_ends_all(cluster, tmp_path):
    with pytest.raises(ClusterError, match="Mend it"):
        results(cluster, [("echo", 1), ("raise", RetrainError("Mend it."), 1, tmp_path)] + [("echo", 1)] * 1000)


def test_tasks_of_a_node_that_dies_are_done_by_others(nodes, cluster, tmp_path):
    doomed = nodes.add_node(num_cpus=1)

    def kill():
        until((tmp_path / doomed.node_id).exists)
        doomed.all_processes["raylet"][0].process.kill()

    with meanwhile(kill):
        found = results(cluster, [("stay", doomed.node_id, tmp_path)] * 20 + [("echo", 1)] * 20)
    nodes.remove_node(doomed, allow_graceful=False)
    assert all(outcome.failure is None for outcome in found.values())
    assert {outcome.attempt for outcome in found.values()} <= {1, 2}
    assert all(outcome.result != doomed.node_id for outcome in found.values())


@pytest.mark.parametrize("most", [None, 5])
def test_a_node_that_joins_gets_workers(nodes, cluster, most):
    """With a largest number, a fifth worker waits for it in Ray's queue, where an autoscaler sees it."""
    new, seen = [], set()
    deadline = time.monotonic() + 60

    def todo():
        while not new or new[0].node_id not in seen:
            assert time.monotonic() < deadline
            yield Task("", ("about",))

    with open_cluster(nodes.address, most=most) as limited:
        for outcome in limited.run(open_worker, {}, todo()):
            seen.add(outcome.result["node"])
            if not new:
                new.append(nodes.add_node(num_cpus=3))
    nodes.remove_node(new[0], allow_graceful=False)


def test_no_more_than_a_few_tasks_for_each_worker_are_taken_ahead(lone):
    taken, ahead = 0, 0

    def todo():
        nonlocal taken
        for number in range(10**6):
            taken += 1
            yield Task(str(number), ("echo", number))

    outcomes = lone.run(open_worker, {}, todo())
    for done in range(1, 301):
        next(outcomes)
        ahead = max(ahead, taken - done)
    outcomes.close()
    assert ahead <= 10


def test_results_come_while_the_next_task_is_slow_to_come(lone):
    first = threading.Event()

    def todo():
        yield Task("first", ("echo", 1))
        assert first.wait(60)
        yield Task("second", ("echo", 2))

    found = []
    for outcome in lone.run(open_worker, {}, todo()):
        found.append(outcome.result)
        first.set()
    assert found == [1, 2]


def test_an_idle_worker_takes_what_lies_ready_at_a_busy_one(cluster, tmp_path):
    """The task that ends all waits lies behind one of them at the worker that was there first."""
    values = [("wait", tmp_path / "go")] * 3 + [("touch", tmp_path / "go")]
    assert all(outcome.failure is None for outcome in results(cluster, values).values())


def test_a_last_task_that_is_slow_is_done_by_a_second_worker(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling, "_SLOW_SECONDS", 0.5)
    found = results(cluster, [("echo", 1)] * 20 + [("stick_once", tmp_path)])
    assert (found[20].result, found[20].attempt) == ("well", 1)


def test_a_node_on_which_workers_cannot_be_opened_is_left_alone_after_three_attempts(nodes, cluster, tmp_path):
    """Tasks come until a node that joins after the third one has a worker: long enough for a fourth."""
    new, seen, later = [], set(), 0
    deadline = time.monotonic() + 60

    def todo():
        while not new or new[0].node_id not in seen:
            assert time.monotonic() < deadline
            yield Task("", ("about",))

    shared = {"node": nodes.head_node.node_id, "folder": tmp_path}
    for outcome in cluster.run(open_elsewhere, shared, todo()):
        seen.add(outcome.result["node"])
        later += (tmp_path / "2").exists()
        if later == 50:
            new.append(nodes.add_node(num_cpus=1))
    nodes.remove_node(new[0], allow_graceful=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_credentials_of_the_driver_are_not_sent_to_workers(cluster, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of nobody")
    assert results(cluster, [("variable", "AWS_SECRET_ACCESS_KEY")])[0].result is None


def test_what_goes_wrong_with_the_source_of_tasks_reaches_who_waits(lone):
    def todo():
        yield Task("", ("echo", 1))
        raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck"):
        list(lone.run(open_worker, {}, todo()))


def test_no_tasks_are_no_outcomes(lone):
    assert results(lone, []) == {}


def test_workers_that_cannot_be_opened_end_the_run_in_one_line(lone):
    with pytest.raises(ClusterError, match=r"^No worker can be opened: .*no room on the device\.$"):
        results(lone, [("echo", 1)], open_badly)
    with pytest.raises(ClusterError, match=r"^.*: the network is not for this processor"):
        results(lone, [("echo", 1)], open_wrongly)


def test_another_version_on_a_node_ends_the_run_in_one_line(lone, monkeypatch):
    monkeypatch.setattr(retrain, "__version__", "0.0.1")
    with pytest.raises(ClusterError, match=r"retrain .* on Python 3.*, but this run is retrain 0\.0\.1 on"):
        results(lone, [("echo", 1)])


def test_workers_are_no_more_than_the_most_and_idle_ones_end(nodes, tmp_path):
    """Two meet; then one task at a time comes, until one of them is gone."""
    deadline, done = time.monotonic() + 60, threading.Semaphore(0)

    def workers():
        return [int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()]

    def release():
        until(lambda: len(workers()) == 2)
        (tmp_path / "go").touch()

    def todo():
        for number in range(10):
            yield Task(str(number), ("meet", tmp_path, tmp_path / "go"))
        for _ in range(10):
            done.acquire()
        while all(is_alive(pid) for pid in workers()):
            assert time.monotonic() < deadline
            yield Task("", ("about",))
            done.acquire()

    with open_cluster(nodes.address, fewest=1, most=2, idle_seconds=0.1) as cluster, meanwhile(release):
        for _ in cluster.run(open_worker, {}, todo()):
            done.release()
    assert len(workers()) == 2


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
