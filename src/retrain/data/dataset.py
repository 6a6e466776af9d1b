"""Lists an image folder as sorted class names and `Example` rows.

Two layouts are read: one folder per class, which a `SplitRule` splits; and `train/`, `validation/` and `test/` folders
of class folders, in any usual spelling, whose split is kept.
"""

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retrain.data import layout, mistakes
from retrain.data.layout import ClassLister, Place, quoted
from retrain.data.listed import OnListed, list_tree
from retrain.data.split import DEFAULT_SPLIT, Split, SplitRule, group_of, is_ready_made, nearest_to_training
from retrain.errors import DatasetError, plural
from retrain.storage.folders import Folder, RemoteFolder

FEW_IMAGES = 20  # the original's threshold for its warning


@dataclass(frozen=True, slots=True)
class Example:
    """One image row: its path relative to the image folder ("/"-separated), its class id, its split."""

    path: str
    class_id: int
    split: Split


@dataclass(frozen=True)
class Dataset:
    """The images to train on; a class id is an index into `class_names`, which is sorted.

    `notes` are sentences about this folder that its owner should read; the first of them, `layout_notes`, say how it
    is laid out and what in it is not used. `groups` are names of those groups, by the paths of their images, that stay
    in one split beside those that `_nohash_` makes.
    """

    image_dir: Folder
    class_names: tuple[str, ...]
    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    layout_notes: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)

    def counts(self, split: Split) -> list[int]:
        """Return the number of images of each class in one split."""
        return [self._counts[class_id, split] for class_id in range(len(self.class_names))]

    @functools.cached_property
    def _counts(self) -> Counter[tuple[int, Split]]:
        return Counter((example.class_id, example.split) for example in self.examples)


def scan(
    image_dir: Folder,
    rule: SplitRule = DEFAULT_SPLIT,
    *,
    least_classes: int = 2,
    on_listed: OnListed | None = None,
) -> Dataset:
    """Return the examples of an image folder, sorted by class and path.

    Hidden files and folders are left out; nested folders below a class belong to the class. Files are not opened,
    except those of a folder in which no name looks like an image's.

    Args:
        image_dir: Folder of class folders, or of `train/`, `validation/` and `test/` with class folders each.
        rule: Splits images that no folder assigns to a split.
        least_classes: How many class folders with images there must be; training needs two.
        on_listed: Called with a class folder below the image folder, and consecutive sorted paths of its files, as
            they become known: of a remote folder from several threads, before it is known which folders are classes,
            and with none at the end of each.

    Raises:
        DatasetError: No such folder, or too few class folders with images.
        StorageError: A remote folder cannot be listed.
    """
    place = _place(image_dir, on_listed)
    splits = layout.split_folders(place)
    lister = ClassLister(place, [place / folder for folder in splits] or [place], on_listed)
    if splits:
        dataset = _scan_split_folders(image_dir, lister, splits, rule, least_classes)
    else:
        dataset = _scan_class_folders(image_dir, lister, rule, least_classes)
    return _with_notes(_with_training_images(dataset))


def _place(image_dir: Folder, on_listed: OnListed | None) -> Place:
    """Return a folder as `layout` takes it: a remote one is listed now."""
    if isinstance(image_dir, RemoteFolder):
        listed = list_tree(image_dir, lambda name: layout.split_of(name) is not None, on_listed)
        if listed.folders() or listed.files():
            return listed
    elif image_dir.is_dir():
        return image_dir
    raise mistakes.no_folder(image_dir)


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
            f"class {quoted([dataset.class_names[class_id] for class_id in empty])} of {dataset.image_dir} has no "
            f"readable image ({plural(count, 'file')} could not be read, see above). Replace the files, or move the "
            f"folder away."
        )
    return _with_notes(_with_training_images(replace(dataset, examples=readable, notes=dataset.layout_notes)))


def rule_within(splits: Collection[Split], rule: SplitRule) -> SplitRule:
    """Return the rule that splits the photos of the training folder, beside the folders of other `splits`.

    Without a folder for validation, it takes validation images from train/; test images only from train/ alone.
    """
    alone = all(split is Split.TRAINING for split in splits)
    return SplitRule(0 if Split.VALIDATION in splits else rule.validation, rule.testing if alone else 0)


def grouped(dataset: Dataset, groups: Mapping[str, str], rule: SplitRule) -> Dataset:
    """Return a data set that a rule splits with each group in one split: by the hash of the group's name.

    Args:
        dataset: From `scan`, with the same rule, and no split by folders.
        groups: The names of groups, by the paths of their images; all other images stay where they are.
        rule: Splits the groups.
    """
    examples = tuple(
        replace(each, split=rule.assign(groups[each.path])) if each.path in groups else each
        for each in dataset.examples
    )
    split = replace(dataset, examples=examples, groups=groups, notes=dataset.layout_notes)
    return _with_notes(_with_training_images(split))


def groups_of(dataset: Dataset) -> list[str]:
    """Return a name for each example, the same for those of a group, in whichever folder of a split they lie."""
    if dataset.groups:
        return [dataset.groups.get(example.path, group_of(example.path)) for example in dataset.examples]
    paths = [example.path for example in dataset.examples]
    if is_ready_made(dataset):
        paths = [path.partition("/")[2] for path in paths]
    return [group_of(path) for path in paths]


def _scan_class_folders(image_dir: Folder, lister: ClassLister, rule: SplitRule, least_classes: int) -> Dataset:
    files = lister.class_files(lister.image_dir)
    _check_classes(lister.image_dir, files, least_classes, lister)
    paths = ((class_id, path) for class_id, name in enumerate(files) for path in files[name])
    examples = tuple(Example(path, number, rule.assign(path)) for number, path in paths)
    return _listed(image_dir, tuple(files), examples, lister.notes())


def _scan_split_folders(
    image_dir: Folder, lister: ClassLister, splits: dict[str, Split], rule: SplitRule, least_classes: int
) -> Dataset:
    place = lister.image_dir
    lister.find_loose(place)
    files = {folder: lister.class_files(place / folder) for folder in splits}
    training = [folder for folder, split in splits.items() if split is Split.TRAINING]
    names = tuple(sorted({name for folder in training for name in files[folder]}))
    _check_classes(place / training[0], names, least_classes, lister)
    for folder, classes in files.items():
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise DatasetError(
                f"{place / folder} has {plural(len(unknown), 'class folder')} missing in "
                f"{place / training[0]}: {quoted(unknown)}. Every class needs training photos."
            )
    train_rule = rule_within(splits.values(), rule)
    examples = []
    for class_id, name in enumerate(names):
        for folder, split in splits.items():
            for path in files[folder].get(name, ()):
                assigned = train_rule.assign(path.partition("/")[2]) if split is Split.TRAINING else split
                examples.append(Example(path, class_id, assigned))
    *first, last = [f"{folder}/" for folder in splits]
    notes = [f"Using your {', '.join(first)} and {last} folders." if first else f"Using your {last} folder."]
    others = [name for name in layout.folders(place) if name not in splits]
    if others:
        notes.append(f"Not used, being no part of that split: the folder {quoted(others)}.")
    return _listed(image_dir, names, tuple(examples), notes + lister.notes())


def _listed(image_dir: Folder, names: tuple[str, ...], examples: tuple[Example, ...], notes: Sequence[str]) -> Dataset:
    return Dataset(image_dir, names, examples, tuple(notes), tuple(notes))


def _check_classes(folder: Place, names: Collection[str], least: int, lister: ClassLister) -> None:
    if len(names) < least:
        raise mistakes.too_few_classes(folder, names, least=least, notes=lister.notes())


def _with_training_images(dataset: Dataset) -> Dataset:
    """Return the data set with a training image in every class.

    With a handful of images the split may leave a class without any; one of its held-out images is then trained on.
    """
    empty = [class_id for class_id, count in enumerate(dataset.counts(Split.TRAINING)) if not count]
    if not empty:
        return dataset
    moved = {nearest_to_training(e.path for e in dataset.examples if e.class_id == class_id) for class_id in empty}
    if dataset.groups:  # which stay together
        names = {dataset.groups.get(path, path) for path in moved}
        moved |= {path for path, name in dataset.groups.items() if name in names}
    examples = tuple(replace(e, split=Split.TRAINING) if e.path in moved else e for e in dataset.examples)
    classes = quoted([dataset.class_names[class_id] for class_id in empty])
    group = " with its group" if len(moved) > len(empty) else ""
    note = f"Too few images to hold one out, so one is moved to training{group}: class {classes}."
    return replace(dataset, examples=examples, notes=(*dataset.notes, note))


def _with_notes(dataset: Dataset) -> Dataset:
    """Return the data set with notes about classes that are small or miss a split."""
    notes = list(dataset.notes)
    totals = Counter(e.class_id for e in dataset.examples)
    few = [name for class_id, name in enumerate(dataset.class_names) if totals[class_id] < FEW_IMAGES]
    if few:
        notes.append(f"Fewer than {FEW_IMAGES} images, which may cost accuracy: class {quoted(few)}.")
    for split, effect in ((Split.VALIDATION, "validation accuracy"), (Split.TESTING, "test accuracy")):
        counts = dataset.counts(split)
        empty = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
        if len(empty) == len(counts):
            notes.append(f"No class has a {split} image, so there will be no {effect}.")
        elif empty:
            notes.append(f"No {split} image, so not counted in the {effect}: class {quoted(empty)}.")
    return replace(dataset, notes=tuple(notes))
