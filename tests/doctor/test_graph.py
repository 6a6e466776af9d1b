import numpy as np
import pytest

from retrain.doctor import graph


def _cosines(vectors: np.ndarray) -> np.ndarray:
    scaled = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    cosines = scaled @ scaled.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


@pytest.mark.parametrize("count", [12, 700, 1500])
def test_neighbours_are_those_of_all_products(count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 24)).astype(np.float32)
    found = graph.graph_of(lambda numbers: vectors[numbers], count)
    cosines = _cosines(vectors)
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :10]
    np.testing.assert_allclose(found.similarity, expected, atol=2e-5)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.neighbours, axis=1), expected, atol=2e-5)


def test_equally_near_photos_are_in_order_and_none_is_its_own_neighbour() -> None:
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 700, axis=0)
    found = graph.graph_of(lambda numbers: vectors[numbers], len(vectors), k=4)
    assert found.neighbours[0].tolist() == [1, 2, 3, 4]
    assert found.neighbours[2].tolist() == [0, 1, 3, 4]
    assert found.neighbours[2099].tolist() == [1400, 1401, 1402, 1403]
    np.testing.assert_array_equal(found.similarity, np.ones_like(found.similarity))


@pytest.mark.parametrize(("count", "k"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_few_photos_have_few_neighbours(count: int, k: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    assert graph.graph_of(lambda numbers: vectors[numbers], count).neighbours.shape == (count, k)
