"""Properties of made-up photos, for tests of what the doctor finds in them."""

from pathlib import Path

import numpy as np

from retrain.data.dataset import Dataset, Example
from retrain.data.properties import DTYPE
from retrain.data.split import Split
from retrain.doctor.photos import Photos


def photos_of(labels, known, seed=0):
    """Return photos `0/0.jpg`, `0/1.jpg`, ... of these class ids and properties, which have no bottlenecks."""
    labels = np.asarray(labels)
    names = tuple(f"class {number}" for number in range(int(labels.max(initial=0)) + 1))
    examples = tuple(Example(f"{label}/{n}.jpg", int(label), Split.TRAINING) for n, label in enumerate(labels))
    return Photos(
        Dataset(Path("photos"), names, examples),
        lambda numbers: None,
        [None] * len(labels),
        labels,
        seed,
        describe=lambda n: known[n],
    )


def ordinary(count, seed=0):
    """Return properties of photos without a fault, `DTYPE` [count], that differ as photos do."""
    random, known = np.random.default_rng(seed), np.zeros(count, DTYPE)
    known["width"], known["height"] = random.choice([(640, 480), (480, 640), (500, 500)], count).T
    known["bytes"] = random.lognormal(11.5, 0.3, count)
    known["format"], known["taken"] = b"JPEG", -1
    known["brightness"], known["contrast"] = random.normal(120, 25, count), random.normal(50, 8, count)
    known["dark_end"], known["bright_end"] = random.uniform(0, 70, count), random.uniform(180, 255, count)
    known["slope"], known["detail"] = 15, random.uniform(14, 18, count)
    known["colour"], known["border"] = random.normal(120, 25, (count, 3)), random.normal(120, 25, (count, 3))
    known["border_contrast"] = random.uniform(10, 60, count)
    known["grey"] = random.integers(0, 256, (count, 16, 16))
    return known
