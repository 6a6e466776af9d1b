"""What is said of many photos, of which the checks look at samples and train quick heads."""

import numpy as np
import pytest
import threadpoolctl
from doctor.photo_sets import gaussians, photos_of
from scripts.doctor import scale
from scripts.doctor.scale import Job

from retrain.doctor import examining, heads, labels, scoring, threads

pytestmark = pytest.mark.slow


def test_of_many_photos_wrong_labels_are_found_as_of_few():
    vectors, true = gaussians(heads.MANY + 1000, dimension=64, apart=2.0)
    rng, given = np.random.default_rng(0), true.copy()
    flipped = rng.choice(len(true), 400, replace=False)
    given[flipped] = (given[flipped] + rng.integers(1, 4, 400)) % 4
    found = labels.suspects(scoring.out_of_fold(photos_of(vectors, given)), given)
    assert np.isin(found.numbers, flipped).mean() > 0.9
    assert np.isin(flipped, found.numbers).mean() > 0.9
    assert (found.classes == true[found.numbers]).mean() > 0.9


def test_all_checks_look_at_made_up_photos_in_a_store_and_find_what_was_put_there(tmp_path):
    job = Job(tmp_path, photos=1500, classes=3)
    scale.fill(job, lambda done, total: None)
    looked = scale.look(job)
    assert len(looked.rows) == 2 + len(examining.CHECKS)
    assert looked.peak >= looked.before
    assert 20 < looked.found["duplicate"] < 60  # three of a hundred
    assert looked.found["label"] >= 15


def test_each_product_is_computed_on_one_thread_and_jobs_come_back_in_order():
    with threads.one_of_blas():
        assert {each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"} == {1}
        assert list(threads.each(lambda number: number**2, range(200))) == [number**2 for number in range(200)]
    assert list(threads.each(lambda number: number, [])) == []
