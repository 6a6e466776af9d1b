"""Which test photos a report shows."""

import numpy as np
import pytest

from retrain.evaluation.report import TestScores as Scores
from retrain.evaluation.selection import EXAMINED, MISCLASSIFIED, best_scores, select


def scores(rows):
    """Return test scores of (path, label, predicted, score) of three classes."""
    probabilities = np.full((len(rows), 3), 0.0, np.float32)
    for row, (_, _, predicted, score) in enumerate(rows):
        probabilities[row] = (1 - score) / 2
        probabilities[row, predicted] = score
    return Scores([row[0] for row in rows], probabilities, np.array([row[1] for row in rows], np.int64))


def test_wrong_ones_come_most_confident_first_and_each_photo_once():
    test = scores([("a", 0, 1, 0.5), ("b", 0, 2, 0.9), ("c", 1, 1, 0.8), ("b", 0, 2, 0.9), ("d", 2, 0, 0.5)])
    chosen = select(test)
    assert [test.paths[place] for place in chosen.wrong] == ["b", "a", "d"]
    assert [test.paths[place] for place in chosen.right] == ["c"]
    assert chosen.left_out == {}


def test_of_each_class_the_surest_and_the_least_sure_right_ones_are_shown():
    rows = [(f"{label}{number}", label, label, 0.4 + 0.05 * number) for label in range(2) for number in range(9)]
    test = scores(rows)
    assert [test.paths[place] for place in select(test).right] == ["08", "01", "00", "18", "11", "10"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_few_right_ones_all_are_shown(count):
    test = scores([(str(number), 0, 0, 0.9) for number in range(count)])
    assert sorted(select(test).right) == list(range(count))


def test_what_there_is_no_room_for_is_counted():
    wrong = [(f"{number:05}", 0, 1, 0.9) for number in range(1000)]
    right = [(f"r{number:05}", number, number, 0.9) for number in range(300)]
    probabilities = np.zeros((1300, 300), np.float32)
    for row, (_, _, predicted, score) in enumerate([*wrong, *right]):
        probabilities[row, predicted] = score
    labels = np.array([row[1] for row in [*wrong, *right]])
    chosen = select(Scores([row[0] for row in [*wrong, *right]], probabilities, labels))
    assert chosen.left_out[MISCLASSIFIED] == 1000 - len(chosen.wrong)
    assert chosen.left_out["classes with right photos"] == 300 - len(chosen.right)
    assert len(chosen.examined) == 2 * EXAMINED


def test_without_test_photos_there_are_none():
    chosen = select(Scores([], np.zeros((0, 3), np.float32), np.zeros(0, np.int64)))
    assert (chosen.wrong, chosen.right, chosen.examined) == ([], [], [])


def test_the_true_class_is_among_the_best():
    names = [str(number) for number in range(8)]
    values = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05, 0.0], np.float32)
    assert [name for name, _ in best_scores(names, values, 1)] == ["0", "1", "2", "3", "4"]
    assert [name for name, _ in best_scores(names, values, 7)] == ["0", "1", "2", "3", "7"]
    assert [name for name, _ in best_scores(names[:2], values[:2], 1)] == ["0", "1"]
