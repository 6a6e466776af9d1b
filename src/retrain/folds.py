"""The folds stage: heads like the one that was trained, cross-validated over all photos in the store."""

import hashlib
from dataclasses import replace

import numpy as np

from retrain.bottlenecks.reading import BottleneckReader
from retrain.candidates import Candidate
from retrain.config import RetrainConfig
from retrain.data.dataset import Dataset, groups_of
from retrain.data.split import Split
from retrain.data.variants import list_with_copies
from retrain.errors import TrainingError, UsageError
from retrain.evaluation import folds
from retrain.evaluation.folds import CrossValidation
from retrain.evaluation.kept import Kept
from retrain.plans import distortions_of, is_trained_in_numpy, recipe_of, training_plan
from retrain.terminal import Terminal
from retrain.training import cross_validation
from retrain.training.cross_validation import PhotoBottlenecks
from retrain.training.recipe import TrainingPlan

USUAL = 5  # folds by default where test photos are few
_MOST_PHOTOS, _MOST_SAMPLES = 20_000, 10**6  # of a training whose folds take seconds


def check(config: RetrainConfig, dataset: Dataset) -> None:
    """Refuse a number of folds that the photos cannot be divided into, and distorted copies that are not stored.

    Raises:
        UsageError: Names the flag.
    """
    if not config.folds:
        return
    groups = len(set(groups_of(dataset)))
    if config.folds > groups:
        raise UsageError(
            f"--folds is {config.folds}, and there are {groups} photos to divide; those of a group, or whose names "
            f"differ only behind _nohash_, count as one. Give fewer."
        )
    if distortions_of(config) and not config.distortion_copies:
        raise UsageError("--folds needs distorted copies that are stored. Leave --distortion_copies 0 or --folds out.")


def cross_validate(chosen: Candidate, terminal: Terminal) -> CrossValidation | None:
    """Return the figures of cross-validation with the recipe of a candidate.

    None where none is wanted, or a training failed, which is said. The figures are kept beside the store: the same
    photos with the same recipe have the same ones.

    All photos take part, those for testing too: nothing about the recipe was chosen by them. Of a network that was
    fine-tuned, the head on the network as it was is measured: its layers have seen most of the photos.

    Raises:
        StoreError: A photo whose distorted copies are not stored yet cannot be read any more.
    """
    config, dataset = chosen.config, chosen.prepared.dataset
    if config.folds == 0 or (config.folds is None and not _is_usual(chosen)):
        return None  # before millions of names are sorted into groups
    groups = np.unique(groups_of(dataset), return_inverse=True)[1]
    count = config.folds or min(USUAL, int(groups.max(initial=-1)) + 1)
    if count == 1:
        return None
    read, photos = _photos(chosen, terminal)
    fold = cross_validation.assign_folds(photos.labels, groups, folds=count, seed=config.random_seed)
    fine_tuned = config.fine_tune_from is not None

    def measure() -> CrossValidation:
        recipe, advance = recipe_of(config), terminal.progress("Cross-validation", "fold")
        scores = cross_validation.out_of_fold(photos, fold, recipe, _plan(chosen), advance=advance)
        return folds.summarise(scores, photos.labels, fold, dataset.class_names, last_layer_only=fine_tuned)

    kept = Kept(chosen.prepared.folder)
    try:
        (figures,) = kept.through([_key(chosen, read, photos, fold)], lambda places: [folds.packed(measure())])
    except TrainingError as error:
        terminal.warn(f"No cross-validation: in one of the folds, {error}")
        return None
    kept.write()
    return folds.unpacked(figures or b"")


def _is_usual(chosen: Candidate) -> bool:
    """Return whether a run that asks for no folds has some: not where test photos are enough, or it would take long."""
    config, prepared = chosen.config, chosen.prepared
    is_quick = (
        len(prepared.dataset.examples) <= _MOST_PHOTOS
        and chosen.steps * config.train_batch_size <= _MOST_SAMPLES
        and is_trained_in_numpy(config, prepared)
        and config.time_limit is None
        and not distortions_of(config)
    )
    is_small = len(prepared.variants.members[Split.TESTING]) < folds.ENOUGH
    return is_small and is_quick


def _key(chosen: Candidate, read: BottleneckReader, photos: PhotoBottlenecks, fold: np.ndarray) -> bytes:
    """Return by what figures are kept: all that they follow from."""
    config, digest = chosen.config, hashlib.sha256(b"folds 1")
    contents = [read.checksums(indices.ravel()) for indices in (photos.scored, photos.trained)]
    for array in (photos.labels, fold, photos.scored, photos.trained, *contents):
        digest.update(array.tobytes())
    rest = recipe_of(config), _plan(chosen), chosen.prepared.dataset.class_names, config.fine_tune_from is not None
    digest.update(repr(rest).encode("utf-8", "surrogateescape"))
    return digest.digest()


def _photos(chosen: Candidate, terminal: Terminal) -> tuple[BottleneckReader, PhotoBottlenecks]:
    """Return what reads all photos, and these; distorted copies are made of those, too, that were not trained on."""
    config, dataset, read = chosen.config, chosen.prepared.dataset, chosen.prepared.read
    labels = np.array([example.class_id for example in dataset.examples], np.int64)
    if not distortions_of(config):
        return read, cross_validation.plain(read, labels, len(dataset.class_names))
    read = read.of(
        list_with_copies(dataset, copies=config.distortion_copies), terminal.progress("Bottlenecks of folds", "image")
    )
    rows = np.arange(len(labels) * (1 + config.distortion_copies)).reshape(len(labels), -1)
    return read, PhotoBottlenecks(read, labels, rows[:, 0], rows[:, 1:], len(dataset.class_names))


def _plan(chosen: Candidate) -> TrainingPlan:
    """Return the plan of the candidate's head, as long as it took to the weights that were kept."""
    plan = replace(training_plan(chosen.config, chosen.prepared), steps=chosen.steps)  # a time limit may leave fewer
    if plan.patience is None:
        return plan
    of_the_head = [row for row in chosen.history if row.step < chosen.steps]
    return replace(plan, steps=max(of_the_head, key=lambda row: row.rank).step + 1)
