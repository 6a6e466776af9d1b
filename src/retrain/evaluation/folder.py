"""Evaluates an exported model on a folder of class folders."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain.data.dataset import scan
from retrain.data.split import DEFAULT_SPLIT, Split, SplitRule
from retrain.errors import DatasetError
from retrain.evaluation import metrics
from retrain.evaluation.metrics import Figures, Misclassified, misclassified
from retrain.formats.classifier import Classifier
from retrain.inference import prediction


@dataclass(frozen=True)
class FolderEvaluation:
    """The scores of a model on the images of a folder.

    `names` are the model's C classes. `probabilities` float32 [N, C] belong to the readable images at `paths`, `labels`
    int64 [N] are the class ids of their folders. `rejected` maps unreadable images to the reason; `unknown` are folders
    without a class.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    probabilities: np.ndarray
    labels: np.ndarray
    rejected: dict[str, str]
    unknown: tuple[str, ...]

    @functools.cached_property
    def figures(self) -> Figures:
        """Return the metrics."""
        return metrics.figures(self.probabilities, self.labels)

    @functools.cached_property
    def misclassified(self) -> list[Misclassified]:
        """Return the images that were given a wrong class."""
        return misclassified(self.paths, self.names, self.probabilities, self.labels)


def evaluate(
    model: Classifier,
    image_dir: Path,
    *,
    split: Split | None = Split.TESTING,
    rule: SplitRule = DEFAULT_SPLIT,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> FolderEvaluation:
    """Return the scores of a model on a folder of class folders.

    Args:
        model: From `inference.loading.load`.
        image_dir: The image folder, split as for training.
        split: The part to evaluate on, None for all.
        rule: How the folder is split, as in training.
        advance: Called with the images done and the images in all.

    Raises:
        DatasetError: No image to evaluate on, or no folder that the model has a class for.
    """
    dataset = scan(image_dir, rule, least_classes=1)
    names = model.metadata.labels
    ids = _class_ids(dataset.class_names, names)
    unknown = tuple(name for name in dataset.class_names if name not in ids)
    if not ids:
        raise DatasetError(
            f"none of the class folders in {image_dir} is a class of the model, which knows "
            f"{', '.join(names[:5])} ... Name the right --image_dir."
        )
    wanted = [e for e in dataset.examples if split in (None, e.split) and dataset.class_names[e.class_id] in ids]
    paths, rows, labels = [], [], []
    rejected: dict[str, str] = {}
    predictions = prediction.predict_probabilities(model, [dataset.image_dir / example.path for example in wanted])
    for done, (example, image) in enumerate(zip(wanted, predictions, strict=True), 1):
        if image.probabilities is None:
            rejected[example.path] = image.error or ""
        else:
            paths.append(example.path)
            rows.append(image.probabilities)
            labels.append(ids[dataset.class_names[example.class_id]])
        advance(done, len(wanted))
    if not rows:
        raise DatasetError(
            f"{image_dir} has no readable {split or ''} images of the model's classes to evaluate on. "
            f"--split all takes every image."
        )
    return FolderEvaluation(names, tuple(paths), np.stack(rows), np.array(labels, np.int64), rejected, unknown)


def _class_ids(class_names: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, int]:
    """Return folder name -> class id; the original wrote labels in lower case, with spaces for all signs."""
    exact = {name: number for number, name in enumerate(labels)}
    legacy = {_legacy(name): number for number, name in enumerate(labels)}
    ids = {name: exact.get(name, legacy.get(_legacy(name))) for name in class_names}
    return {name: class_id for name, class_id in ids.items() if class_id is not None}


def _legacy(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()) if name.isascii() else name
