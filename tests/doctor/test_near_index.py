"""The index of very many photos: the same each time, nearly all that is nearest, and asked for where it is missing."""

import sys

import numpy as np
import pytest
from doctor.photo_sets import gaussians

from retrain.doctor import near_index
from retrain.doctor.graph import Scaled, graph_of
from retrain.errors import CheckError


def units(count):
    vectors = gaussians(count, dimension=24, classes=30)[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.slow
def test_the_same_vectors_have_the_same_neighbours_and_nearly_all_of_the_nearest():
    vectors = units(12_000)
    vectors[7_000] = vectors[11_000]
    found, again = (near_index.candidates(vectors, 16) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    some = np.arange(0, len(vectors), 60)
    cosines = vectors[some] @ vectors.T
    cosines[np.arange(len(some)), some] = -np.inf
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    assert (nearest[:, :, None] == found[some][:, None, :]).any(axis=2).mean() > 0.95
    assert 11_000 in found[7_000]
    assert not (found == np.arange(len(vectors))[:, None]).any()
    assert (np.diff(np.sort(found, axis=1), axis=1) > 0).all()


def test_without_the_index_very_many_photos_are_refused_in_one_line_before_one_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch", None)  # as if it were not installed

    def read(numbers):
        raise AssertionError

    said = r"^200,001 photos are too many .*: pip install 'retrain-images\[doctor\]'$"
    with pytest.raises(CheckError, match=said):
        graph_of(Scaled(read, near_index.MANY + 1))
    near_index.require(near_index.MANY)
