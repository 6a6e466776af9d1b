"""Walks the image folder into sorted class names and `Example` rows; the split is a pure hash.

Two layouts are read: one folder per class, split here by hashing; and `train/`, `validation/` (or `val/`)
and `test/` folders of class folders, which are a ready-made split and are used as they are.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrain.data.image_files import EXTENSIONS, files_below, is_image
from retrain.data.split import Split, assign_split, check_percentages, hash_percentage
from retrain.errors import DatasetError

FEW_IMAGES = 20  # the original's threshold for its warning
_READY_MADE = {"train": "training", "validation": "validation", "val": "validation", "test": "testing"}
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Example:
    """One image row: its path relative to the image folder ("/"-separated), its class id, its split."""

    path: str
    class_id: int
    split: Split


@dataclass(frozen=True)
class Dataset:
    """The images to train on; a class id is an index into `class_names`, which is sorted.

    `notes` are sentences about this folder that its owner should read.
    """

    image_dir: Path
    class_names: tuple[str, ...]
    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()

    def counts(self, split: Split) -> list[int]:
        """Return the number of images of each class in one split."""
        counted = Counter(e.class_id for e in self.examples if e.split is split)
        return [counted[class_id] for class_id in range(len(self.class_names))]


def scan(
    image_dir: Path, *, validation_percentage: float = 10, testing_percentage: float = 10, least_classes: int = 2
) -> Dataset:
    """Return the examples of an image folder, sorted by class and path.

    Hidden files and folders are passed over; nested folders below a class belong to the class. Files are not
    opened, but for those of a folder in which no name looks like an image's.

    Args:
        image_dir: Folder of class folders, or of `train/`, `validation/` and `test/` with class folders each.
        validation_percentage: Share held out for tuning, 0 to 100.
        testing_percentage: Share held out for the final report, 0 to 100.
        least_classes: How many class folders with images there must be; two to train on.

    Raises:
        DatasetError: No such folder, or too few class folders with images.
        UsageError: Percentages that are negative or leave nothing to train on.
    """
    check_percentages(validation_percentage, testing_percentage)
    if not image_dir.is_dir():
        raise DatasetError(
            f"no such image folder: {image_dir}. Give --image_dir a folder that holds one sub-folder per class."
        )
    ready = _ready_made_splits(image_dir)
    if ready:
        found = _scan_ready_made(image_dir, ready, validation_percentage, least_classes)
    else:
        found = _scan_hashed(image_dir, validation_percentage, testing_percentage, least_classes)
    return _with_notes(_with_training_images(found))


def without(dataset: Dataset, rejected: Sequence[str]) -> Dataset:
    """Return the data set without the images that turned out to be unreadable.

    Args:
        dataset: What `scan` found.
        rejected: Paths as in `Example.path`.

    Raises:
        DatasetError: A class is left without any image.
    """
    if not rejected:
        return dataset
    gone = set(rejected)
    left = tuple(e for e in dataset.examples if e.path not in gone)
    remaining = Counter(e.class_id for e in left)
    empty = [name for class_id, name in enumerate(dataset.class_names) if not remaining[class_id]]
    if empty:
        lost = sum(1 for e in dataset.examples if dataset.class_names[e.class_id] == empty[0])
        raise DatasetError(
            f"class {_quoted(empty)} of {dataset.image_dir} has no readable image ({lost} file(s) could not be "
            f"read, see above). Replace the files, or move the folder away."
        )
    return _with_notes(_with_training_images(replace(dataset, examples=left, notes=())))


def _scan_hashed(
    image_dir: Path, validation_percentage: float, testing_percentage: float, least_classes: int
) -> Dataset:
    files = _class_files(image_dir)
    _check_classes(image_dir, files, least_classes)
    names = tuple(files)
    examples = []
    for class_id, name in enumerate(names):
        for file in files[name]:
            path = f"{name}/{file}"
            split = assign_split(
                path, validation_percentage=validation_percentage, testing_percentage=testing_percentage
            )
            examples.append(Example(path, class_id, split))
    return Dataset(image_dir, names, tuple(examples))


def _ready_made_splits(image_dir: Path) -> dict[str, Split]:
    """Return folder name -> split where the folder is a ready-made split, else an empty dict."""
    folders = _folders(image_dir)
    if "train" not in folders or len(folders) < 2 or not set(folders) <= set(_READY_MADE):
        return {}
    # A data set of trains and tests has photos in these folders; a ready-made split has class folders.
    if not all(_folders(image_dir / name) for name in folders):
        return {}
    return {name: Split(_READY_MADE[name]) for name in folders}


def _scan_ready_made(
    image_dir: Path, ready: dict[str, Split], validation_percentage: float, least_classes: int
) -> Dataset:
    found = {folder: _class_files(image_dir / folder) for folder in ready}
    names = tuple(found["train"])
    _check_classes(image_dir / "train", found["train"], least_classes)
    for folder, classes in found.items():
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise DatasetError(
                f"{image_dir / folder} has class folder(s) that {image_dir / 'train'} has not: {_quoted(unknown)}. "
                f"All parts of a ready-made split need the same classes."
            )
    hash_validation = Split.VALIDATION not in ready.values()
    examples = []
    for class_id, name in enumerate(names):
        for folder, split in ready.items():
            for file in found[folder].get(name, ()):
                own = split
                if hash_validation and split is Split.TRAINING:
                    own = assign_split(
                        f"{name}/{file}", validation_percentage=validation_percentage, testing_percentage=0
                    )
                examples.append(Example(f"{folder}/{name}/{file}", class_id, own))
    parts = ", ".join(f"{folder}/" for folder in ready)
    return Dataset(image_dir, names, tuple(examples), (f"Using the ready-made split in {parts} as it is.",))


def _check_classes(folder: Path, files: dict[str, list[str]], least: int) -> None:
    if len(files) >= least:
        return
    found = f"only one class folder with images, {_quoted(list(files))}" if files else "no class folder with images"
    needed = "; training needs at least 2" if least > 1 else ""
    raise DatasetError(
        f"{folder} has {found}{needed}. Make one sub-folder per class and put its photos "
        f"({', '.join(EXTENSIONS)}) inside."
    )


def _class_files(folder: Path) -> dict[str, list[str]]:
    """Return class name -> sorted file paths relative to the class folder, for folders that hold images."""
    classes = {}
    for name in _folders(folder):
        files = sorted(files_below(folder / name))
        named = any(file.lower().endswith(EXTENSIONS) for file in files)
        if named or any(is_image(folder / name / file) for file in files):
            classes[name] = files
    return classes


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"cannot read the folder {folder}: {error.strerror}. Check its permissions.") from error


def _with_training_images(dataset: Dataset) -> Dataset:
    """Return the data set with a training image in every class.

    With a handful of images the hash may leave a class nothing to train on; its image with the highest hash,
    the last one that a larger training share would leave out, is then trained on.
    """
    moved: set[Example] = set()
    for class_id, count in enumerate(dataset.counts(Split.TRAINING)):
        if not count:
            own = [e for e in dataset.examples if e.class_id == class_id]
            moved.add(max(own, key=lambda e: hash_percentage(e.path)))
    if not moved:
        return dataset
    examples = tuple(replace(e, split=Split.TRAINING) if e in moved else e for e in dataset.examples)
    names = [dataset.class_names[class_id] for class_id in sorted(e.class_id for e in moved)]
    note = f"So few images that one held-out image is trained on instead: class {_quoted(names)}."
    return replace(dataset, examples=examples, notes=(*dataset.notes, note))


def _with_notes(dataset: Dataset) -> Dataset:
    """Return the data set with what its owner should know about its size added to the notes."""
    notes = list(dataset.notes)
    totals = Counter(e.class_id for e in dataset.examples)
    few = [name for class_id, name in enumerate(dataset.class_names) if totals[class_id] < FEW_IMAGES]
    if few:
        notes.append(f"Fewer than {FEW_IMAGES} images, which may cost accuracy: class {_quoted(few)}.")
    for split, effect in ((Split.VALIDATION, "validation accuracy"), (Split.TESTING, "test accuracy")):
        counts = dataset.counts(split)
        empty = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
        if len(empty) == len(counts):
            notes.append(f"No class has a {split} image: there will be no {effect}.")
        elif empty:
            notes.append(f"No {split} image, so left out of the {effect}: class {_quoted(empty)}.")
    return replace(dataset, notes=tuple(notes))


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
