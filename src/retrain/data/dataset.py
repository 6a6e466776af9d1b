"""Lists an image folder as sorted class names and `Example` rows.

Two layouts are read: one folder per class, which a `SplitRule` splits; and `train/`, `validation/` (or `val/`)
and `test/` folders of class folders, whose split is kept.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrain.data.image_files import EXTENSIONS, files_below, is_image
from retrain.data.split import DEFAULT_SPLIT, Split, SplitRule, nearest_to_training
from retrain.errors import DatasetError, plural

FEW_IMAGES = 20  # the original's threshold for its warning
_SPLIT_FOLDERS = {"train": "training", "validation": "validation", "val": "validation", "test": "testing"}
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
        counts = Counter(e.class_id for e in self.examples if e.split is split)
        return [counts[class_id] for class_id in range(len(self.class_names))]


def scan(image_dir: Path, rule: SplitRule = DEFAULT_SPLIT, *, least_classes: int = 2) -> Dataset:
    """Return the examples of an image folder, sorted by class and path.

    Hidden files and folders are left out; nested folders below a class belong to the class. Files are not opened,
    except those of a folder in which no name looks like an image's.

    Args:
        image_dir: Folder of class folders, or of `train/`, `validation/` and `test/` with class folders each.
        rule: Splits images that no folder assigns to a split.
        least_classes: How many class folders with images there must be; training needs two.

    Raises:
        DatasetError: No such folder, or too few class folders with images.
    """
    if not image_dir.is_dir():
        raise DatasetError(
            f"no such image folder: {image_dir}. Give --image_dir a folder that holds one sub-folder per class."
        )
    splits = _split_folders(image_dir)
    if splits:
        dataset = _scan_split_folders(image_dir, splits, rule, least_classes)
    else:
        dataset = _scan_class_folders(image_dir, rule, least_classes)
    return _with_notes(_with_training_images(dataset))


def without(dataset: Dataset, rejected: Sequence[str]) -> Dataset:
    """Return the data set without the images at some paths, which turned out to be unreadable.

    Raises:
        DatasetError: A class is left without any image.
    """
    if not rejected:
        return dataset
    unreadable = set(rejected)
    readable = tuple(e for e in dataset.examples if e.path not in unreadable)
    totals = Counter(e.class_id for e in readable)
    empty = [class_id for class_id in range(len(dataset.class_names)) if not totals[class_id]]
    if empty:
        count = sum(e.class_id == empty[0] for e in dataset.examples)
        raise DatasetError(
            f"class {_quoted([dataset.class_names[class_id] for class_id in empty])} of {dataset.image_dir} has no "
            f"readable image ({plural(count, 'file')} could not be read, see above). Replace the files, or move the "
            f"folder away."
        )
    return _with_notes(_with_training_images(replace(dataset, examples=readable, notes=())))


def _scan_class_folders(image_dir: Path, rule: SplitRule, least_classes: int) -> Dataset:
    files = _class_files(image_dir)
    _check_classes(image_dir, files, least_classes)
    paths = [(class_id, f"{name}/{file}") for class_id, name in enumerate(files) for file in files[name]]
    return Dataset(image_dir, tuple(files), tuple(Example(path, number, rule.assign(path)) for number, path in paths))


def _split_folders(image_dir: Path) -> dict[str, Split]:
    """Return folder name -> split where the image folder has one folder for each split, else an empty dict."""
    folders = _folders(image_dir)
    if "train" not in folders or len(folders) < 2 or not set(folders) <= set(_SPLIT_FOLDERS):
        return {}
    # Two classes called "train" and "test" have photos in these folders, and no class folders.
    if not all(_folders(image_dir / name) for name in folders):
        return {}
    return {name: Split(_SPLIT_FOLDERS[name]) for name in folders}


def _scan_split_folders(image_dir: Path, splits: dict[str, Split], rule: SplitRule, least_classes: int) -> Dataset:
    files = {folder: _class_files(image_dir / folder) for folder in splits}
    names = tuple(files["train"])
    _check_classes(image_dir / "train", files["train"], least_classes)
    for folder, classes in files.items():
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise DatasetError(
                f"{image_dir / folder} has {plural(len(unknown), 'class folder')} missing in {image_dir / 'train'}: "
                f"{_quoted(unknown)}. Every class needs training photos."
            )
    # Without a folder for validation, the rule takes validation images from train/; no test image is taken from it.
    train_rule = SplitRule(0 if Split.VALIDATION in splits.values() else rule.validation, 0)
    examples = []
    for class_id, name in enumerate(names):
        for folder, split in splits.items():
            for file in files[folder].get(name, ()):
                assigned = train_rule.assign(f"{name}/{file}") if split is Split.TRAINING else split
                examples.append(Example(f"{folder}/{name}/{file}", class_id, assigned))
    folders = [f"{folder}/" for folder in splits]
    note = f"Using your {', '.join(folders[:-1])} and {folders[-1]} folders."
    return Dataset(image_dir, names, tuple(examples), (note,))


def _check_classes(folder: Path, files: dict[str, list[str]], least: int) -> None:
    if len(files) >= least:
        return
    count = f"only one class folder with images, {_quoted(list(files))}" if files else "no class folder with images"
    needed = "; training needs at least 2" if least > 1 else ""
    raise DatasetError(
        f"{folder} has {count}{needed}. Make one sub-folder per class and put its photos "
        f"({', '.join(EXTENSIONS)}) inside."
    )


def _class_files(folder: Path) -> dict[str, list[str]]:
    """Return class name -> sorted file paths relative to the class folder, for folders that hold images."""
    classes = {}
    for name in _folders(folder):
        files = sorted(files_below(folder / name))
        has_extension = any(file.lower().endswith(EXTENSIONS) for file in files)
        if has_extension or any(is_image(folder / name / file) for file in files):
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

    With a handful of images the split may leave a class without any; one of its held-out images is then trained on.
    """
    empty = [class_id for class_id, count in enumerate(dataset.counts(Split.TRAINING)) if not count]
    if not empty:
        return dataset
    moved = {nearest_to_training(e.path for e in dataset.examples if e.class_id == class_id) for class_id in empty}
    examples = tuple(replace(e, split=Split.TRAINING) if e.path in moved else e for e in dataset.examples)
    names = [dataset.class_names[class_id] for class_id in empty]
    note = f"Too few images to hold one out, so one is moved to training: class {_quoted(names)}."
    return replace(dataset, examples=examples, notes=(*dataset.notes, note))


def _with_notes(dataset: Dataset) -> Dataset:
    """Return the data set with notes about classes that are small or miss a split."""
    notes = list(dataset.notes)
    totals = Counter(e.class_id for e in dataset.examples)
    few = [name for class_id, name in enumerate(dataset.class_names) if totals[class_id] < FEW_IMAGES]
    if few:
        notes.append(f"Fewer than {FEW_IMAGES} images, which may cost accuracy: class {_quoted(few)}.")
    for split, effect in ((Split.VALIDATION, "validation accuracy"), (Split.TESTING, "test accuracy")):
        counts = dataset.counts(split)
        empty = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
        if len(empty) == len(counts):
            notes.append(f"No class has a {split} image, so there will be no {effect}.")
        elif empty:
            notes.append(f"No {split} image, so not counted in the {effect}: class {_quoted(empty)}.")
    return replace(dataset, notes=tuple(notes))


def _quoted(names: Sequence[str]) -> str:
    quoted = ", ".join(repr(name) for name in names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"{quoted} and {more} more" if more > 0 else quoted
