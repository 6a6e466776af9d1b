"""Evaluates an exported model on a folder of class folders."""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from retrain import workers
from retrain.data import image_files
from retrain.data.dataset import Dataset, scan
from retrain.data.split import DEFAULT_SPLIT, Split, SplitRule, is_ready_made
from retrain.errors import DatasetError, plural
from retrain.evaluation import metrics
from retrain.evaluation.metrics import Figures, Misclassified, misclassified
from retrain.files import sha256_of
from retrain.formats.classifier import Classifier
from retrain.inference import prediction
from retrain.inference.prediction import ImagePrediction
from retrain.metadata import Metadata, TrainingSplit
from retrain.storage.folders import Folder, RemoteFolder

Key = TypeVar("Key")
_NAMED_AT_MOST = 5
_READERS, _WAITING = 16, 64  # threads that hash files, and files that may wait for an earlier one


@dataclass(frozen=True)
class FolderEvaluation:
    """The scores of a model on the images of a folder.

    `names` are the model's C classes. `probabilities` float32 [N, C] belong to the readable images at `paths`, `labels`
    int64 [N] are the class ids of their folders. `rejected` maps unreadable images to the reason; `unknown` are folders
    without a class. `notes` are sentences on how the folder is laid out, what was left out, and how the images were
    chosen.
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
    image_dir: Folder,
    *,
    split: Split | None = Split.TESTING,
    rule: SplitRule | None = None,
    views: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> FolderEvaluation:
    """Return the scores of a model on a folder of class folders; of held-out images, those it was not trained on.

    Args:
        model: From `inference.loading.load`.
        image_dir: The image folder, split as for training.
        split: The part to evaluate on, None for all.
        rule: How the folder is split; by default as for the training of the model, from `rule_of`.
        views: Of each image, as for `inference.prediction.predict_probabilities`.
        advance: Called with the images done and the images in all.

    Raises:
        DatasetError: No image to evaluate on, or no folder that the model has a class for.
    """
    rule = rule or rule_of(model.metadata)
    dataset = scan(image_dir, rule, least_classes=1)
    names = model.metadata.labels
    ids = _class_ids(dataset, model.metadata)
    unknown = tuple(name for name in dataset.class_names if name not in ids)
    wanted, notes = _choose(dataset, ids, split, model.metadata, rule)
    notes = [*(_left_out(name, names) for name in unknown), *notes]
    paths = [dataset.image_dir / path for path in wanted]
    predictions = prediction.predict_probabilities(model, paths, views=views)
    scores, rejected = _scores(predictions, list(wanted), advance)
    if not scores:
        raise DatasetError(
            f"{image_dir} has no readable {split or ''} images of the model's classes to evaluate on"
            f"{''.join(f'; {note}' for note in notes)}. --split all takes every image."
        )
    labels = np.array([wanted[path] for path in scores], np.int64)
    notes = [*dataset.layout_notes, *notes]
    return FolderEvaluation(
        names, tuple(scores), np.stack(list(scores.values())), labels, rejected, unknown, tuple(notes)
    )


def _scores(
    predictions: Iterable[ImagePrediction], paths: Sequence[str], advance: Callable[[int, int], None]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return path -> probabilities float32 [C] of the images that can be read, and path -> reason of the others."""
    scores: dict[str, np.ndarray] = {}
    rejected: dict[str, str] = {}
    for done, (path, image) in enumerate(zip(paths, predictions, strict=True), 1):
        if image.probabilities is None:
            rejected[path] = image.error or ""
        else:
            scores[path] = image.probabilities
        advance(done, len(paths))
    return scores, rejected


def _class_ids(dataset: Dataset, metadata: Metadata) -> dict[str, int]:
    # The original wrote labels in lower case, with spaces for all signs; retrain writes names as they are.
    ids = match_classes(dataset.class_names, metadata.labels, legacy=metadata.retrain_version is None)
    if not ids:
        raise DatasetError(
            f"none of the class folders in {dataset.image_dir} is a class of the model, which knows "
            f"{', '.join(metadata.labels[:5])} ... Name the right --image_dir."
        )
    return ids


def rule_of(metadata: Metadata, validation: float | None = None, testing: float | None = None) -> SplitRule:
    """Return how photos are split: by the user's percentages, else by those of the model's training, else by 10 and 10.

    Raises:
        UsageError: The percentages leave nothing to train on.
    """
    known = metadata.split or DEFAULT_SPLIT
    return SplitRule(
        known.validation if validation is None else validation, known.testing if testing is None else testing
    )


def _choose(
    dataset: Dataset, ids: Mapping[str, int], split: Split | None, metadata: Metadata, rule: SplitRule
) -> tuple[dict[str, int], list[str]]:
    """Return path -> class id of the images to evaluate on, and sentences on what the model was trained on instead."""
    here, trained = TrainingSplit(rule.validation, rule.testing, is_ready_made(dataset)), metadata.split
    known = {example.path: example for example in dataset.examples if dataset.class_names[example.class_id] in ids}
    splits = {path: example.split for path, example in known.items()}
    # A scan finds a training image in every class; a model that knows its own needs no others.
    if trained is not None and not here.folders:
        splits = {path: Split(trained.held_out(path) or rule.assign(path)) for path in known}
        if split is Split.TRAINING and trained.knows_held_out:  # groups made more than names do training photos
            rest = [path for path in known if splits[path] is not split and not trained.held_out(path)]
            splits |= dict.fromkeys(_trained_on(rest, dataset.image_dir, trained), split)
        here = replace(here, group_by=trained.group_by if trained.knows_held_out else "")
    wanted = {
        path: ids[dataset.class_names[example.class_id]]
        for path, example in known.items()
        if split in (None, splits[path])
    }
    if split is None:
        return wanted, []
    if trained is None:
        guessed = metadata.retrain_version and rule == DEFAULT_SPLIT and not here.folders
        return wanted, [f"the model does not say how its photos were split; {here} is assumed"] if guessed else []
    notes = []
    if trained.rule != here:
        notes = [f"the training's split was {trained}, this one is {here}: some images may have been trained on"]
    if split is not Split.TRAINING and (seen := _trained_on(wanted, dataset.image_dir, trained)):
        for path in seen:
            del wanted[path]
        named = ", ".join(seen[:_NAMED_AT_MOST]) + (", ..." if len(seen) > _NAMED_AT_MOST else "")
        if not trained.knows_held_out:  # where it was groups that made them training photos
            notes.append(f"{plural(len(seen), 'image')} that the model was trained on, left out: {named}")
    new = sum(not trained.held_out(path) for path in wanted) if trained.knows_held_out else 0
    if new and split is not Split.TRAINING:
        notes.append(f"{plural(new, 'image')} that the training did not have, taken by name, whatever their groups")
    return wanted, notes


def _trained_on(paths: Iterable[str], image_dir: Folder, trained: TrainingSplit) -> list[str]:
    """Return the paths of those images that are known to have been trained on, by their content."""
    seen = []
    files = ((path, image_dir / path) for path in (paths if trained.contents else ()))
    for path, digest in workers.map_in_order(lambda: _digest, files, threads=_READERS, waiting=_WAITING):
        if digest is not None and trained.trained_on(digest):  # what cannot be read is said later
            seen.append(path)
    return seen


def _digest(job: tuple[str, Folder]) -> tuple[str, bytes | None]:
    """Return the path of an image and the SHA-256 of its file, None where it cannot be read."""
    path, file = job
    with suppress(OSError):
        if isinstance(file, RemoteFolder):
            return path, hashlib.sha256(image_files.read_image(file)).digest()
        if file.is_file():
            return path, bytes.fromhex(sha256_of(file))
    return path, None


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
