"""The photos of a folder, as all checks look at them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain.bottlenecks.reading import Gather
from retrain.data.dataset import Dataset


@dataclass(frozen=True)
class Photos:
    """Readable photos, each with a number: its place among the examples of `dataset`.

    `gather` reads bottlenecks float32 [n, D] of numbers int64 [n]. `keys` are the store's, which follow from the
    content of files, None for a photo that is not stored. `labels` int64 [N] are class ids. Everything random follows
    from `seed`.
    """

    dataset: Dataset
    gather: Gather
    keys: Sequence[bytes | None]
    labels: np.ndarray
    seed: int
