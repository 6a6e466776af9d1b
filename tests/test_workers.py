import threading

import pytest

from retrain import workers


def test_results_come_in_the_order_of_the_jobs_whatever_takes_longest():
    first_may_end = threading.Event()

    def work(job):
        if job == 0:
            assert first_may_end.wait(10)
        elif job == 5:
            first_may_end.set()
        return job * 10

    found = list(workers.map_in_order(lambda: work, range(50), threads=2, waiting=100))
    assert found == [job * 10 for job in range(50)]


def test_results_come_before_the_last_job_is_known():
    gate = threading.Event()

    def jobs():
        yield 1
        assert gate.wait(10)
        yield 2

    results = workers.map_in_order(lambda: lambda job: job, jobs(), threads=2, waiting=10)
    assert next(results) == 1
    gate.set()
    assert list(results) == [2]


def test_no_more_jobs_are_taken_than_may_wait():
    taken = []

    def jobs():
        for job in range(1000):
            taken.append(job)
            yield job

    results = workers.map_in_order(lambda: lambda job: job, jobs(), threads=2, waiting=10)
    for expected in range(3):
        assert next(results) == expected
    # Those that wait, one in the hands of each thread, and what the last look at them took away.
    assert len(taken) < 100
    results.close()


def test_no_more_jobs_are_taken_than_may_wait_while_the_first_one_takes_long():
    """Otherwise the results of a million jobs would wait for it in memory."""
    taken, first_may_end, all_wait = [], threading.Event(), threading.Event()

    def jobs():
        for job in range(100):
            if len(taken) == 10:
                all_wait.set()
            taken.append(job)
            yield job

    def work(job):
        if job == 0:
            assert all_wait.wait(10)
            assert first_may_end.wait(0.2) is False  # time for the other thread to go on, if it could
            assert len(taken) <= 11
        return job

    assert list(workers.map_in_order(lambda: work, jobs(), threads=2, waiting=10)) == list(range(100))


def test_threads_end_with_who_waits_for_their_results():
    before = threading.active_count()
    results = workers.map_in_order(lambda: lambda job: job, range(10**9), threads=3, waiting=5)
    assert next(results) == 0
    results.close()
    for thread in threading.enumerate()[before:]:
        thread.join(10)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_no_jobs_give_no_results_and_an_end(threads):
    assert list(workers.map_in_order(lambda: lambda job: job, [], threads=threads, waiting=10)) == []


@pytest.mark.parametrize("where", ["worker", "jobs"])
def test_what_goes_wrong_reaches_who_waits(where):
    def jobs():
        yield 1
        if where == "jobs":
            raise ValueError("no such luck")
        yield 2

    def work(job):
        if job == 2:
            raise ValueError("no such luck")
        return job

    with pytest.raises(ValueError, match="no such luck"):
        list(workers.map_in_order(lambda: work, jobs(), threads=2, waiting=10))
