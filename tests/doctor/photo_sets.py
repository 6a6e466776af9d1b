"""Photos of given bottlenecks, without files."""

from pathlib import Path

import numpy as np

from retrain.data.dataset import Dataset, Example
from retrain.data.split import Split
from retrain.doctor.photos import Photos


def photos_of(vectors, labels, *, names=None, seed=0):
    """Return photos `CLASS/NUMBER.jpg` whose bottlenecks are float32 [N, D], for training all of them."""
    classes = tuple(names or (f"class_{number}" for number in range(int(labels.max()) + 1)))
    examples = tuple(
        Example(f"{classes[label]}/{number}.jpg", label, Split.TRAINING) for number, label in enumerate(labels.tolist())
    )
    keys = [b"%d" % number for number in range(len(labels))]
    return Photos(Dataset(Path("photos"), classes, examples), lambda rows: vectors[rows], keys, labels, seed)


def gaussians(count, *, dimension=32, classes=4, apart=1.5, seed=0):
    """Return bottlenecks float32 [N, D] around the centres of classes, and class ids int64 [N]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    vectors = apart * rng.normal(size=(classes, dimension))[labels] + rng.normal(size=(count, dimension))
    return vectors.astype(np.float32), labels
