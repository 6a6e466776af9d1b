"""Compares two classifiers on the photos that both were tested on."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrain.errors import csv_cell

COLUMNS = ("image", "true", "predicted", "score")
_RARE = 0.05  # the usual level of significance
_LEAST_FLIPS = 6  # fewer cannot reach it, however they fall


@dataclass(frozen=True)
class PhotoPrediction:
    """A test photo: its path below the image folder, its class, the class that it was given, and the score of that."""

    image: str
    true: str
    predicted: str
    score: float


@dataclass(frozen=True)
class Flip:
    """A photo that one of two classifiers got right: its path, its class and the class that each gave it."""

    image: str
    true: str
    first: str
    second: str


@dataclass(frozen=True)
class PairedComparison:
    """The answers of two classifiers to the same photos.

    `only_first` and `only_second` are the photos that one alone got right. `p_value` is McNemar's, exact and two-sided.
    `relabelled` counts photos left out, because the classifiers were told different classes of them.
    """

    photos: int
    both_right: int
    only_first: Sequence[Flip]
    only_second: Sequence[Flip]
    p_value: float
    relabelled: int

    @property
    def accuracies(self) -> tuple[float, float]:
        """Return the accuracy of each on these photos, NaN without any."""
        right = (self.both_right + len(self.only_first), self.both_right + len(self.only_second))
        first, second = (count / self.photos if self.photos else math.nan for count in right)
        return first, second


def compare(first: Sequence[PhotoPrediction], second: Sequence[PhotoPrediction]) -> PairedComparison:
    """Return how two classifiers did on the photos that both have a prediction for; photos go by their paths."""
    others = {row.image: row for row in second}
    pairs = [(row, others[row.image]) for row in first if row.image in others]
    same = [(one, other) for one, other in pairs if one.true == other.true]
    flips: dict[tuple[bool, bool], list[Flip]] = {(True, False): [], (False, True): []}
    both_right = 0
    for one, other in same:
        right = (one.predicted == one.true, other.predicted == other.true)
        both_right += all(right)
        if right in flips:
            flips[right].append(Flip(one.image, one.true, one.predicted, other.predicted))
    only_first, only_second = flips[True, False], flips[False, True]
    p_value = mcnemar(len(only_first), len(only_second))
    return PairedComparison(len(same), both_right, only_first, only_second, p_value, len(pairs) - len(same))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: that of a fair coin for photos that one alone got right.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    if not count:
        return 1.0
    logs = (math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(math.exp(log - count * math.log(2)) for log in logs))


def verdict(result: PairedComparison, first: str, second: str) -> str:
    """Return in words what a comparison shows of two classifiers with these names."""
    flips = len(result.only_first) + len(result.only_second)
    if not flips:
        return "They are right and wrong on the same photos: no difference."
    if flips < _LEAST_FLIPS:
        return (
            f"One alone was right on {flips} photos only (McNemar's exact p = {result.p_value:.2g}), and fewer than "
            f"{_LEAST_FLIPS} never show a difference. Test on more photos to see which is better."
        )
    counts = {first: len(result.only_first), second: len(result.only_second)}
    more = max(counts, key=lambda name: counts[name])
    share = "less than 0.1 %" if result.p_value < 0.001 else f"{100 * result.p_value:.2g} %"
    chance = (
        f"Of {flips} photos that one alone got right, {more} has {counts[more]}. Were both equally good, chance would "
        f"make it as uneven in {share} of such tests (McNemar's exact p = {result.p_value:.2g})"
    )
    if result.p_value < _RARE:
        return f"{chance}: {more} is very likely better."
    return f"{chance}: that is no evidence that one of them is better. Test on more photos to see."


def encode(rows: Sequence[PhotoPrediction]) -> bytes:
    """Return predictions as CSV, a photo a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow((csv_cell(row.image), csv_cell(row.true), csv_cell(row.predicted), f"{row.score:.6f}"))
    return text.getvalue().encode()


def decode(data: bytes) -> list[PhotoPrediction]:
    """Return the predictions that `encode` wrote; their texts are as they stand in the file.

    Raises:
        ValueError: No such CSV.
    """
    rows = list(csv.reader(io.StringIO(data.decode())))
    if not rows or tuple(rows[0][: len(COLUMNS)]) != COLUMNS or any(len(row) < len(COLUMNS) for row in rows):
        raise ValueError("no predictions of retrain")
    return [PhotoPrediction(image, true, predicted, float(score)) for image, true, predicted, score, *_ in rows[1:]]
