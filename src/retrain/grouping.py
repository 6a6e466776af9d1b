"""Keeps groups of photos in one split: of a pattern in their paths, copies of each other, or of one camera and day."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from retrain.config import RetrainConfig
from retrain.data import dataset, grouping, properties
from retrain.data.dataset import Dataset
from retrain.data.split import Split, is_ready_made
from retrain.doctor import copies, near_index
from retrain.doctor.photos import Photos, photos_of
from retrain.errors import UsageError, plural, printable
from retrain.features import ListedPhotos, prepare_features, undistorted
from retrain.session import Session


def grouped(config: RetrainConfig, photos: ListedPhotos, session: Session) -> ListedPhotos:
    """Return the photos of a run, split so that the groups that `group_by` asks for stay together.

    Features are computed for it where they decide what belongs together.

    Raises:
        UsageError: The folder is split already, or nothing matches a pattern.
        RetrainError: Something else that the user can fix.
    """
    if not config.group_by:
        return photos
    if _by_features(config):
        check(config, photos.dataset)
        prepared = prepare_features(undistorted(config), photos, session)
        advance = session.terminal.progress("Properties", "photo")
        split = regrouped(config, photos_of(prepared, config.random_seed, advance))
    else:
        split = _by_pattern(config, photos.dataset)
    sizes = [size for size in Counter(split.groups.values()).values() if size > 1]
    parts = ", ".join(f"{sum(split.counts(each))} {each}" for each in Split)
    session.terminal.say(
        printable(
            f"Grouped by {config.group_by}: {plural(sum(sizes), 'photo')} in {plural(len(sizes), 'group')} stay "
            f"together; {parts}."
        )
    )
    for note in split.notes:
        if note not in photos.dataset.notes:
            session.terminal.warn(note)
    return replace(photos, dataset=split)


def regrouped(config: RetrainConfig, photos: Photos) -> Dataset:
    """Return the data set of photos, split as `group_by` says.

    Args:
        config: The settings of a run.
        photos: All readable photos.

    Raises:
        UsageError: All photos belong together.
        StoreError: The store cannot be read.
    """
    if not _by_features(config):
        return _by_pattern(config, photos.dataset)
    paths = [example.path for example in photos.dataset.examples]
    if config.group_by == grouping.DUPLICATES:
        first = copies.linked(copies.find(photos)).tolist()
        members = Counter(first)
        groups = {path: paths[one] for path, one in zip(paths, first, strict=True) if members[one] > 1}
    else:
        known = photos.properties
        rows = zip(paths, known["camera"].tolist(), properties.day_of(known).tolist(), strict=True)
        groups = {path: f"{camera.decode('ascii', 'replace')} {day}" for path, camera, day in rows if day >= 0}
    return _split(config, photos.dataset, groups)


def check(config: RetrainConfig, photos: Dataset) -> None:
    """Refuse, before features are computed, what `group_by` cannot do with photos.

    Raises:
        UsageError: They are split by their folders, or a pattern makes no group of them, or a single one.
        CheckError: There are very many photos to look for copies among, and the index for them is not installed.
    """
    if _by_features(config):
        _refuse_ready_made(config, photos)
        if config.group_by == grouping.DUPLICATES:
            near_index.require(len(photos.examples))
    elif config.group_by:
        _by_pattern(config, photos)


def _by_features(config: RetrainConfig) -> bool:
    return config.group_by in (grouping.DUPLICATES, grouping.EXIF)


def _by_pattern(config: RetrainConfig, photos: Dataset) -> Dataset:
    _refuse_ready_made(config, photos)
    groups = grouping.by_pattern((example.path for example in photos.examples), config.group_by or "")
    if not groups:
        raise UsageError(
            printable(
                f"--group_by {config.group_by} matches no path in {photos.image_dir}, such as "
                f"{photos.examples[0].path}. Give a regular expression for what photos of a group have in common."
            )
        )
    return _split(config, photos, groups)


def _refuse_ready_made(config: RetrainConfig, photos: Dataset) -> None:
    if is_ready_made(photos):
        raise UsageError(
            printable(
                f"--group_by {config.group_by} decides how photos are split, and {photos.image_dir} is split by its "
                f"folders. Leave it out, or give a folder with one folder for each class."
            )
        )


def _split(config: RetrainConfig, photos: Dataset, groups: Mapping[str, str]) -> Dataset:
    if len(groups) == len(photos.examples) and len(set(groups.values())) == 1:
        raise UsageError(
            printable(
                f"--group_by {config.group_by} makes one group of all photos in {photos.image_dir}, which leaves none "
                f"to test on. Group them by something in which they differ."
            )
        )
    return dataset.grouped(photos, groups, config.split_rule)
