"""Evaluates an exported model on a folder of class folders."""

import functools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from retrain.data.dataset import scan
from retrain.data.split import DEFAULT_SPLIT, Split, SplitRule
from retrain.errors import DatasetError
from retrain.evaluation import metrics
from retrain.evaluation.metrics import Figures, Misclassified, misclassified
from retrain.formats.classifier import Classifier
from retrain.inference import prediction

Key = TypeVar("Key")


@dataclass(frozen=True)
class FolderEvaluation:
    """The scores of a model on the images of a folder.

    `names` are the model's C classes. `probabilities` float32 [N, C] belong to the readable images at `paths`, `labels`
    int64 [N] are the class ids of their folders. `rejected` maps unreadable images to the reason; `unknown` are folders
    without a class. `notes` are sentences on what was left out, and on how the images were chosen.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    probabilities: np.ndarray
    labels: np.ndarray
    rejected: dict[str, str]
    unknown: tuple[str, ...]
    notes: tuple[str, ...] = ()

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
    # The original wrote labels in lower case, with spaces for all signs; retrain writes names as they are.
    ids = match_classes(dataset.class_names, names, legacy=model.metadata.retrain_version is None)
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
    notes = [_left_out(name, names) for name in unknown]
    return FolderEvaluation(
        names, tuple(paths), np.stack(rows), np.array(labels, np.int64), rejected, unknown, tuple(notes)
    )


def match_classes(folders: Sequence[str], labels: Sequence[str], *, legacy: bool) -> dict[str, int]:
    """Return folder name -> class id, where one folder and one label alone go by a name.

    Names are compared as they are; then, for `legacy` labels, as the original wrote them; then without regard to case,
    spaces, separators and the form of accents.
    """
    forms: list[tuple[Callable[[str], str], Callable[[str], str]]] = [(str, str), (_tidy, _tidy)]
    if legacy:
        forms.insert(1, (_legacy, str))
    ids: dict[str, int] = {}
    for folder_form, label_form in forms:
        taken = set(ids.values())
        folder_of = _alone(folder_form, {folder: folder for folder in folders if folder not in ids})
        number_of = _alone(label_form, {number: label for number, label in enumerate(labels) if number not in taken})
        ids |= {folder: number_of[name] for name, folder in folder_of.items() if name in number_of}
    return ids


def _alone(form: Callable[[str], str], names: Mapping[Key, str]) -> dict[str, Key]:
    """Return the form of each name -> its key, without forms that several names have."""
    keys: dict[str, list[Key]] = {}
    for key, name in names.items():
        keys.setdefault(form(name), []).append(key)
    return {formed: found[0] for formed, found in keys.items() if len(found) == 1}


def _left_out(folder: str, labels: Sequence[str]) -> str:
    count = sum(_tidy(label) == _tidy(folder) for label in labels)
    if count > 1:
        return f"{count} classes of the model go by the name of the folder {folder!r}, left out"
    return f"the model has no class for the folder {folder!r}, left out"


def _legacy(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower())


def _tidy(name: str) -> str:
    """Return a name without what differs by chance; a hyphen counts between letters only: "A-" is not "A"."""
    return " ".join(re.sub(r"_|(?<=\w)-(?=\w)", " ", unicodedata.normalize("NFC", name.casefold())).split())
