"""Chooses the test photos that a report shows: all that were wrong, as long as there is room, and a few right ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.evaluation.report import TestScores

EXAMINED = 60  # wrong photos, and right ones, at most, with their neighbours and where the network looked
_WRONG = 400  # photos, at most: the others have a thumbnail alone
_OF_A_CLASS = 3  # right ones: the surest and the two least sure
_SCORES = 5
MISCLASSIFIED, RIGHT = "misclassified photos", "rightly classified photos"  # what may be left out


@dataclass(frozen=True)
class Selection:
    """Places of photos among the test scores: `wrong`, most confidently wrong first, and `right`, class by class.

    `left_out` counts what there is no room for.
    """

    wrong: Sequence[int]
    right: Sequence[int]
    left_out: dict[str, int]

    @property
    def examined(self) -> list[int]:
        """Return those that are shown with more than a thumbnail, the wrong ones first."""
        return [*self.wrong[:EXAMINED], *self.right]


def select(test: TestScores) -> Selection:
    """Return which photos are shown; one that was sampled several times is shown once."""
    predicted = test.probabilities.argmax(axis=1)
    sure = test.probabilities.max(axis=1)
    once = sorted(test.once, key=lambda place: (-float(sure[place]), test.paths[place]))  # surest first
    wrong = [place for place in once if predicted[place] != test.labels[place]]
    of_class: dict[int, list[int]] = {}
    for place in once:
        if predicted[place] == test.labels[place]:
            of_class.setdefault(int(test.labels[place]), []).append(place)
    count = min(_OF_A_CLASS, max(1, EXAMINED // max(1, len(of_class))))
    few = [_few(places, count) for _, places in sorted(of_class.items())]
    left_out = {
        MISCLASSIFIED: len(wrong) - _WRONG,
        "classes with right photos": len(few) - EXAMINED // count,
    }
    right = [place for places in few[: EXAMINED // count] for place in places]
    return Selection(wrong[:_WRONG], right, {what: number for what, number in left_out.items() if number > 0})


def best_scores(names: Sequence[str], probabilities: np.ndarray, label: int) -> list[tuple[str, float]]:
    """Return the best classes of a photo with their scores, float32 [C], best first, the true one among them."""
    best = np.argsort(-probabilities, kind="stable")[:_SCORES].tolist()
    if label not in best:
        best[-1] = label
    return [(names[class_id], float(probabilities[class_id])) for class_id in best]


def _few(places: Sequence[int], count: int) -> list[int]:
    """Return the surest of a class's right photos and the least sure ones, of places from the surest on."""
    return [*places[:1], *places[1:][-(count - 1) :]] if count > 1 else list(places[:1])
