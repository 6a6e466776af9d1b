"""An exported model measured on a folder of class folders."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import label
from retrain.classifier import Classifier
from retrain.dataset import Split, scan
from retrain.errors import DatasetError, ImageError


@dataclass(frozen=True)
class Evaluated:
    """What a model makes of the images of a folder.

    `probabilities` float32 [N, C] belong to the readable images at `paths`, `labels` int64 [N] are the model's class
    ids of their folders. `rejected` maps unreadable images to the reason; `unknown` are folders without a class.
    """

    paths: tuple[str, ...]
    probabilities: np.ndarray
    labels: np.ndarray
    rejected: dict[str, str]
    unknown: tuple[str, ...]


def evaluate(
    model: Classifier,
    image_dir: Path,
    *,
    split: Split | None = Split.TESTING,
    validation_percentage: float = 10,
    testing_percentage: float = 10,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluated:
    """Return what a model makes of a folder of class folders.

    Args:
        model: From `label.load`.
        image_dir: The image folder, split as for training.
        split: The part to look at, None for all.
        validation_percentage: As in training.
        testing_percentage: As in training.
        advance: Called with the images done and the images in all.

    Raises:
        DatasetError: No image to look at, or no folder that the model has a class for.
    """
    dataset = scan(image_dir, validation_percentage=validation_percentage, testing_percentage=testing_percentage)
    ids = _class_ids(dataset.class_names, model.metadata.labels)
    unknown = tuple(name for name in dataset.class_names if name not in ids)
    if not ids:
        raise DatasetError(
            f"none of the class folders in {image_dir} is a class of the model, which knows "
            f"{', '.join(model.metadata.labels[:5])} ... Name the right --image_dir."
        )
    wanted = [e for e in dataset.examples if split in (None, e.split) and dataset.class_names[e.class_id] in ids]
    paths, rows, labels = [], [], []
    rejected: dict[str, str] = {}
    for number, example in enumerate(wanted):
        try:
            pixels = label.pixels(model, dataset.image_dir / example.path)
        except (OSError, ImageError) as error:
            rejected[example.path] = getattr(error, "strerror", None) or str(error)
            continue
        finally:
            advance(number + 1, len(wanted))
        paths.append(example.path)
        rows.append(model(pixels[None])[0])
        labels.append(ids[dataset.class_names[example.class_id]])
    if not rows:
        raise DatasetError(f"{image_dir} has no readable {split or ''} images of the model's classes to evaluate on.")
    return Evaluated(tuple(paths), np.stack(rows), np.array(labels, np.int64), rejected, unknown)


def _class_ids(class_names: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, int]:
    """Return folder name -> class id; the original wrote labels in lower case, with spaces for all signs."""
    exact = {name: number for number, name in enumerate(labels)}
    legacy = {_legacy(name): number for number, name in enumerate(labels)}
    found = {name: exact.get(name, legacy.get(_legacy(name))) for name in class_names}
    return {name: number for name, number in found.items() if number is not None}


def _legacy(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()) if name.isascii() else name
