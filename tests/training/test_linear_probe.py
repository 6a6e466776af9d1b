"""The head beside scikit-learn's logistic regression at its best C, as `scripts/linear_probe.py` compares them."""

import numpy as np
import pytest
from scripts import linear_probe
from scripts.linear_probe import LabelledVectors, Result

MOST = 0.005  # that the best linear probe may be better by


def correlated(count, classes, dimension, seed=0):
    """Return what a network's features are like: not negative, and most of them much alike."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = rng.normal(size=(classes, dimension)) * 0.2
    directions = (means[labels] + rng.normal(size=(count, dimension))) * np.arange(1, dimension + 1) ** -0.5
    rotation = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    return LabelledVectors(np.maximum(directions @ rotation, 0).astype(np.float32), labels.astype(np.int64))


@pytest.mark.slow
def test_the_head_is_as_good_as_the_best_linear_probe_on_few_noisy_features():
    result = linear_probe.compare(correlated(1000, 5, 256), seeds=(0,), cs=(1e-3, 1e-2, 1e-1))
    assert result.head > result.probe - MOST


@pytest.mark.slow
def test_the_head_is_as_good_as_the_best_linear_probe_on_the_originals_features(data):
    vectors = linear_probe.inception(data / linear_probe.INCEPTION)
    result = linear_probe.compare(vectors, seeds=(0,), cs=(3e-3, 3e-2))
    assert result.head > result.probe - MOST


@pytest.mark.slow
def test_c_is_the_one_that_is_best_on_the_test_folds():
    vectors = correlated(60, 3, 8)
    results = [linear_probe.compare(vectors, seeds=(0,), cs=cs) for cs in ((1e-6,), (1.0,), (1e-6, 1.0))]
    assert results[2].probe == max(results[0].probe, results[1].probe)
    assert results[2] == Result(results[0].head, results[2].probe, results[2].c)
