"""The photos of a folder, as all checks look at them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from retrain.bottlenecks.preparation import PreparedDataset
from retrain.bottlenecks.reading import Gather
from retrain.data import properties
from retrain.data.dataset import Dataset, groups_of
from retrain.doctor.graph import Graph, Scaled, graph_of
from retrain.evaluation.looking import Looker
from retrain.training.cross_validation import assign_folds

FOLDS = 5


@dataclass(frozen=True)
class Photos:
    """Readable photos, each with a number: its place among the examples of `dataset`.

    `gather` reads bottlenecks float32 [n, D] of numbers int64 [n]. `keys` are the store's, which follow from the
    content of files, None for a photo that is not stored. `labels` int64 [N] are class ids. Everything random follows
    from `seed`. `rejected` are the reasons why other files cannot be read, by their paths. What checks keep for the
    next look lies in `folder`, that of the store, or nowhere. `describe` reads the properties of numbers int64 [n],
    `data.properties.DTYPE` [n], zeros where nothing is known of a photo. `looker` runs the network and returns what it
    sees at each place of a photo; it is None where the network cannot be looked into.
    """

    dataset: Dataset
    gather: Gather
    keys: Sequence[bytes | None]
    labels: np.ndarray
    seed: int
    rejected: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    describe: Callable[[np.ndarray], np.ndarray] = lambda numbers: np.zeros(len(numbers), properties.DTYPE)
    looker: Looker | None = None

    @cached_property
    def graph(self) -> Graph:
        """Return the nearest photos of each, computed when the first check asks for them."""
        return graph_of(self.scaled)

    @cached_property
    def scaled(self) -> Scaled:
        """Return what reads standardised bottlenecks."""
        return Scaled(self.gather, len(self.labels))

    @cached_property
    def splits(self) -> np.ndarray:
        """Return the `data.split.Split` of each photo, [N]."""
        return np.array([example.split for example in self.dataset.examples])

    @cached_property
    def fold(self) -> np.ndarray:
        """Return the fold of each photo, as `folds` gives them, one of five."""
        return self.folds(FOLDS)

    def folds(self, count: int) -> np.ndarray:
        """Return a fold for each photo, int64 [N] below `count`: those that belong together by name are in one."""
        groups = np.unique(groups_of(self.dataset), return_inverse=True)[1]
        return assign_folds(self.labels, groups, folds=count, seed=self.seed)

    @cached_property
    def properties(self) -> np.ndarray:
        """Return the properties of all photos, read when the first check asks for them."""
        return self.describe(np.arange(len(self.labels)))


def photos_of(
    prepared: PreparedDataset, seed: int, advance: Callable[[int, int], None] = lambda done, total: None
) -> Photos:
    """Return the photos of a data set without distorted copies.

    Args:
        prepared: The data set.
        seed: Of all that is random.
        advance: Called with the photos whose properties are read, and with those of which the store knows none.
    """
    labels = prepared.variants.labels
    return Photos(
        prepared.dataset,
        prepared.read,
        prepared.read.key_of_each(np.arange(len(labels))),
        labels,
        seed,
        prepared.rejected,
        prepared.folder,
        partial(prepared.read.properties, advance=advance),
        Looker.of(prepared.extractor, prepared.runner),
    )
