"""The pictures that a training looks at: photos as they are, and distorted copies of the training photos.

Each picture has a name: the photo's path below the image folder, for a copy followed by a NUL and by which one it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.data.dataset import Dataset
from retrain.data.distortions import Distortions
from retrain.data.split import Split

_MARK = "\0"  # no file name holds it


@dataclass(frozen=True)
class Variants:
    """All pictures of a training.

    `labels` int64 [V] are their class ids; `members` has the indices of each split, int64: those of training are the
    training photos, or their distorted copies.
    """

    names: Sequence[str]
    labels: np.ndarray
    members: dict[Split, np.ndarray]


@dataclass(frozen=True)
class Distorter:
    """Makes distorted copies of photos; all follow from `seed`, the photo's content and which copy it is."""

    distortions: Distortions
    seed: int

    def name(self, path: str, copy: str) -> str:
        """Return the name of one copy of a photo."""
        return f"{path}{_MARK}{self.distortions.tag}/{self.seed}/{copy}"

    def canvas(self, name: str, *, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns to decode a picture's photo to."""
        return self.distortions.canvas(height=height, width=width) if copy_of(name) else (height, width)

    def picture(self, name: str, canvas: np.ndarray, *, content: bytes, height: int, width: int) -> np.ndarray:
        """Return a picture, uint8 [height, width, 3], from its photo in the size of `canvas`, uint8.

        Args:
            name: Which picture.
            canvas: The photo.
            content: The SHA-256 of the photo's file.
            height: Rows of the picture.
            width: Columns of the picture.
        """
        which = copy_of(name)
        if not which:
            return canvas
        return self.distortions.apply(canvas, height=height, width=width, seed=content + which.encode())


def list_variants(dataset: Dataset, copier: Distorter, *, copies: int) -> Variants:
    """Return the pictures of a data set: every photo, or `copies` of each training photo and all others as they are."""
    names: list[str] = []
    labels: list[int] = []
    members: dict[Split, list[int]] = {split: [] for split in Split}
    for example in dataset.examples:
        own = [example.path]
        if copies and example.split is Split.TRAINING:
            own = [copier.name(example.path, str(number)) for number in range(copies)]
        members[example.split] += range(len(names), len(names) + len(own))
        names += own
        labels += [example.class_id] * len(own)
    places = {split: np.array(indices, np.int64) for split, indices in members.items()}
    return Variants(names, np.array(labels, np.int64), places)


def photo_of(name: str) -> str:
    """Return the path of the photo that a picture shows."""
    return name.partition(_MARK)[0]


def copy_of(name: str) -> str:
    """Return which distorted copy a picture is, "" for the photo itself."""
    return name.partition(_MARK)[2]
