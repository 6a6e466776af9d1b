"""What a report shows of single photos: values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Neighbour:
    """A training photo near a test photo.

    Attributes:
        path: The training photo, below the image folder.
        class_name: The class that it was trained as.
        similarity: Cosine of the two photos' standardised bottlenecks, -1 to 1.
    """

    path: str
    class_name: str
    similarity: float


@dataclass(frozen=True)
class PhotoEvidence:
    """One test photo, what the network said of it and why.

    Attributes:
        path: The photo, below the image folder.
        true: The class whose folder it lies in.
        scores: Classes with their scores, best first, at most five, the true class among them.
        attention: Key into ``Evidence.pictures`` of the photo's thumbnail with the places that
            spoke for the predicted class coloured, None where there is none.
        neighbours: The training photos nearest to it, nearest first, at most three.
    """

    path: str
    true: str
    scores: Sequence[tuple[str, float]]
    attention: str | None
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class Evidence:
    """The single photos of a report, with their pictures.

    Attributes:
        wrong: Misclassified test photos, most confidently wrong first.
        right: A few rightly classified ones of each class.
        cells: Cell of the confusion matrix (true id, predicted id) -> paths of its photos that
            have pictures; cells off the diagonal come first.
        pictures: Path (or attention key) -> JPEG bytes, longest side 128 pixels.
        left_out: What was left out to bound the size -> how many there were.
        how: How the attention pictures were made, a sentence; empty where there are none.
        unreadable: How many photos are not shown because they cannot be read any more.
    """

    wrong: Sequence[PhotoEvidence]
    right: Sequence[PhotoEvidence]
    cells: Mapping[tuple[int, int], Sequence[str]]
    pictures: Mapping[str, bytes]
    left_out: Mapping[str, int]
    how: str
    unreadable: int = 0
