"""The nearest training photos: what comparing all pairs gives, in whatever blocks."""

import numpy as np
import pytest

from retrain.evaluation import neighbours


def by_brute_force(vectors, wanted, count):
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in
            ((vectors - mean) / deviation, (wanted - mean) / deviation)]  # fmt: skip
    similarity = unit[1] @ unit[0].T
    places = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return places, np.take_along_axis(similarity, places, axis=1)


@pytest.mark.parametrize("count", [1, 100, 2048, 5000])
def test_they_are_those_of_all_pairs(count):
    rng = np.random.default_rng(count)
    scale = rng.uniform(0.1, 30, 24)  # without standardising, the largest dimensions would decide
    vectors = (rng.normal(size=(count, 24)) * scale + 5).astype(np.float32)
    wanted = (rng.normal(size=(7, 24)) * scale + 5).astype(np.float32)
    rows = np.arange(count) * 3  # of a store with other rows between
    found = neighbours.nearest(lambda indices: vectors[indices // 3], rows, wanted)
    if count == 1:  # its deviation is none
        assert found.places.tolist() == [[0]] * 7
        return
    places, similarity = by_brute_force(vectors.astype(np.float64), wanted.astype(np.float64), 3)
    assert np.allclose(found.similarity, similarity, atol=2e-4)
    assert (found.places == places).all()


def test_of_equal_ones_the_first_come_first_whatever_else_is_asked_for():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors[[40, 2500]] = vectors[7]
    together = neighbours.nearest(vectors.__getitem__, np.arange(3000), vectors[:20])
    alone = neighbours.nearest(vectors.__getitem__, np.arange(3000), vectors[7:8])
    assert alone.places.tolist() == [[7, 40, 2500]]
    assert together.places[7].tolist() == [7, 40, 2500]
    assert (together.similarity[7] == alone.similarity[0]).all()
    assert alone.similarity[0].tolist() == [1, 1, 1]


def test_what_is_kept_is_what_was_found():
    found = neighbours.Nearest(np.array([[3, 1], [0, 2]]), np.array([[0.5, 0.25], [1, -1]], np.float32))
    again = neighbours.unpacked(neighbours.packed(found))
    assert (again.places == found.places).all()
    assert (again.similarity == found.similarity).all()
