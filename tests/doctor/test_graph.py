import numpy as np
import pytest

from retrain.doctor.graph import Scaled, graph_of
from retrain.evaluation import neighbours


def _cosines(vectors: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    mean, deviation = neighbours.scale_of(lambda numbers: vectors[numbers], np.arange(len(vectors)))
    scaled = (vectors - mean) / deviation
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    cosines = scaled[rows] @ scaled.T
    cosines[np.arange(len(cosines)), np.arange(len(vectors))[rows]] = -np.inf
    return cosines


@pytest.mark.parametrize("count", [12, 700, 1500])
def test_neighbours_are_those_of_all_products(count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 24)).astype(np.float32)
    found = graph_of(Scaled(lambda numbers: vectors[numbers], count))
    cosines = _cosines(vectors)
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :10]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.neighbours, axis=1), expected, atol=2e-5)


def test_equally_near_photos_are_in_order_and_none_is_its_own_neighbour() -> None:
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 700, axis=0)
    found = graph_of(Scaled(lambda numbers: vectors[numbers], len(vectors)))
    assert found.neighbours[0].tolist() == list(range(1, 11))
    assert found.neighbours[2].tolist() == [0, 1, *range(3, 11)]
    assert found.neighbours[2099].tolist() == list(range(1400, 1410))
    np.testing.assert_array_equal(found.similarity, np.ones_like(found.similarity))


@pytest.mark.parametrize(("count", "k"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_few_photos_have_few_neighbours(count: int, k: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    assert graph_of(Scaled(lambda numbers: vectors[numbers], count)).neighbours.shape == (count, k)


@pytest.mark.slow
def test_of_many_photos_nearly_all_neighbours_are_the_nearest() -> None:
    rng, count = np.random.default_rng(0), 10_500
    vectors = (rng.normal(size=(40, 16))[rng.integers(0, 40, count)] + rng.normal(size=(count, 16))).astype(np.float32)
    vectors[7_000] = vectors[12]
    found = graph_of(Scaled(lambda numbers: vectors[numbers], count))
    some = np.arange(0, count, 50)
    cosines = _cosines(vectors, some)
    expected = np.sort(cosines, axis=1)[:, :-11:-1]
    np.testing.assert_allclose(
        np.take_along_axis(cosines, found.neighbours[some], axis=1), found.similarity[some], atol=2e-5
    )
    assert (found.similarity[some] >= expected - 2e-5).mean() > 0.9
    assert (np.diff(found.similarity, axis=1) <= 0).all()
    assert (np.diff(np.sort(found.neighbours, axis=1), axis=1) > 0).all()
    assert (found.neighbours[12, 0], found.neighbours[7_000, 0]) == (7_000, 12)


@pytest.mark.slow
def test_many_photos_that_are_all_alike_have_neighbours_too() -> None:
    vectors = np.ones((10_001, 4), np.float32)
    found = graph_of(Scaled(lambda numbers: vectors[numbers], len(vectors)))
    assert found.neighbours[0].tolist() == list(range(1, 11))
    assert found.neighbours.min() == 0
