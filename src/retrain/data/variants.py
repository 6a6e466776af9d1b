"""Variants: photos as they are, and distorted copies of the training photos."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from retrain.data.dataset import Dataset
from retrain.data.distortions import Distortions
from retrain.data.split import Split


class Variant(NamedTuple):
    """A photo's path below the image folder, and which distorted copy of it; "" is the photo itself."""

    path: str
    copy: str = ""


@dataclass(frozen=True)
class VariantColumns(Sequence[Variant]):
    """Variants kept as two columns, because a million small objects are slow to make and to garbage-collect."""

    paths: Sequence[str]
    copies: Sequence[str]

    @overload
    def __getitem__(self, index: int) -> Variant: ...
    @overload
    def __getitem__(self, index: slice) -> "VariantColumns": ...
    def __getitem__(self, index: int | slice) -> "Variant | VariantColumns":
        if isinstance(index, slice):
            return VariantColumns(self.paths[index], self.copies[index])
        return Variant(self.paths[index], self.copies[index])

    def __iter__(self) -> Iterator[Variant]:
        return map(Variant, self.paths, self.copies)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Variants:
    """All variants of a data set.

    `labels` int64 [V] are their class ids. `members` has the indices of each split, int64: those of training are the
    training photos, or their distorted copies. The variants of one photo are side by side.
    """

    dataset: Dataset
    rows: Sequence[Variant]
    labels: np.ndarray
    members: dict[Split, np.ndarray]


@dataclass(frozen=True)
class Distorter:
    """How copies are distorted; each one follows from `seed`, the photo's content and which copy it is."""

    distortions: Distortions
    seed: int

    @functools.cached_property
    def _prefix(self) -> str:
        return f"{self.distortions.tag}/{self.seed}/"

    def identity(self, copy: str) -> str:
        """Return what tells a copy from those of other distortions and seeds; "" for the photo itself."""
        return self._prefix + copy if copy else ""


def list_with_copies(dataset: Dataset, *, copies: int) -> VariantColumns:
    """Return every photo of a data set, whatever its split, and behind each so many distorted copies of it."""
    numbers = ["", *map(str, range(copies))]
    paths = [example.path for example in dataset.examples for _ in numbers]
    return VariantColumns(paths, numbers * len(dataset.examples))


def list_variants(dataset: Dataset, *, copies: int) -> Variants:
    """Return the variants of a data set: `copies` of each training photo and all other photos, or with 0 all photos."""
    numbers = [str(number) for number in range(copies)]
    paths: list[str] = []
    chosen: list[str] = []
    for example in dataset.examples:
        photo_copies = numbers if numbers and example.split is Split.TRAINING else [""]
        paths += [example.path] * len(photo_copies)
        chosen += photo_copies
    examples, photos, order = dataset.examples, len(dataset.examples), list(Split)
    # Arrays from the start: lists of as many numbers would take five times as much.
    splits = np.fromiter((order.index(example.split) for example in examples), np.uint8, photos)
    labels = np.fromiter((example.class_id for example in examples), np.int64, photos)
    if numbers:
        counts = np.where(splits == order.index(Split.TRAINING), copies, 1)
        splits, labels = np.repeat(splits, counts), np.repeat(labels, counts)
    members = {split: np.flatnonzero(splits == number) for number, split in enumerate(order)}
    return Variants(dataset, VariantColumns(paths, chosen), labels, members)
