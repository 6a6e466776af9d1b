"""Scores of more photos than should lie in memory are the same in a file."""

import numpy as np
import pytest

from retrain import export
from retrain.errors import ExportError
from retrain.export import LabelledBottlenecks
from retrain.head import softmax


def scored(count, classes):
    vectors = np.random.default_rng(0).normal(size=(count, classes)).astype(np.float32)
    return LabelledBottlenecks(lambda rows: vectors[rows], np.arange(count), np.zeros(count, np.int64)).score(
        softmax, class_count=classes
    )


def test_scores_in_a_file_are_those_in_memory(monkeypatch):
    in_memory = scored(5000, 3)
    monkeypatch.setattr(export, "_IN_MEMORY", 0)
    in_file = scored(5000, 3)
    assert type(in_file) is np.ndarray
    assert in_file.base is not None  # a view of what is mapped
    assert in_file.tobytes() == in_memory.tobytes()


def test_scores_without_room_are_refused_in_a_line():
    with pytest.raises(ExportError, match=r"cannot write 4503599.6 GB .* for the scores of 1,099,511,627,776 photos"):
        export._scratch(2**40, 2**10)


def test_a_difference_anywhere_among_many_scores_is_found():
    trained = np.zeros((10_000, 2), np.float32)
    export._check_parity("graph.pb", "probabilities", trained.copy(), trained)
    for row in (0, 4095, 4096, 9999):
        in_file = trained.copy()
        in_file[row, 1] = np.nan if row else 0.5
        with pytest.raises(ExportError, match="graph.pb gives probabilities that differ"):
            export._check_parity("graph.pb", "probabilities", in_file, trained)
