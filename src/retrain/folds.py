"""The folds stage: heads like the one that was trained, cross-validated over all photos in the store."""

from dataclasses import replace

import numpy as np

from retrain.candidates import Candidate
from retrain.config import RetrainConfig
from retrain.data.dataset import Dataset, groups_of
from retrain.data.variants import list_with_copies
from retrain.errors import TrainingError, UsageError
from retrain.evaluation import folds
from retrain.evaluation.folds import CrossValidation
from retrain.plans import distortions_of, recipe_of, training_plan
from retrain.terminal import Terminal
from retrain.training import cross_validation
from retrain.training.cross_validation import PhotoBottlenecks
from retrain.training.recipe import TrainingPlan


def check(config: RetrainConfig, dataset: Dataset) -> None:
    """Refuse a number of folds that the photos cannot be divided into, and distorted copies that are not stored.

    Raises:
        UsageError: Names the flag.
    """
    if config.folds is None:
        return
    groups = len(set(groups_of(dataset)))
    if config.folds > groups:
        raise UsageError(
            f"--folds is {config.folds}, and there are {groups} photos to divide; those whose names differ only behind "
            f"_nohash_ count as one. Give fewer."
        )
    if distortions_of(config) and not config.distortion_copies:
        raise UsageError("--folds needs distorted copies that are stored. Leave --distortion_copies 0 or --folds out.")


def cross_validate(chosen: Candidate, terminal: Terminal) -> CrossValidation | None:
    """Return the figures of cross-validation with the recipe of a candidate; None if a training failed, which is said.

    All photos take part, those for testing too: nothing about the recipe was chosen by them. Of a network that was
    fine-tuned, the head on the network as it was is measured: its layers have seen most of the photos.

    Raises:
        StoreError: A photo whose distorted copies are not stored yet cannot be read any more.
    """
    config, dataset = chosen.config, chosen.prepared.dataset
    photos = _photos(chosen, terminal)
    groups = np.unique(groups_of(dataset), return_inverse=True)[1]
    fold = cross_validation.assign_folds(photos.labels, groups, folds=config.folds or 0, seed=config.random_seed)
    advance = terminal.progress("Cross-validation", "fold")
    try:
        scores = cross_validation.out_of_fold(photos, fold, recipe_of(config), _plan(chosen), advance=advance)
    except TrainingError as error:
        terminal.warn(f"No cross-validation: in one of the folds, {error}")
        return None
    fine_tuned = config.fine_tune_from is not None
    return folds.summarise(scores, photos.labels, fold, dataset.class_names, last_layer_only=fine_tuned)


def _photos(chosen: Candidate, terminal: Terminal) -> PhotoBottlenecks:
    """Return all photos; distorted copies are made of those, too, that the candidate was not trained on."""
    config, dataset, read = chosen.config, chosen.prepared.dataset, chosen.prepared.read
    labels = np.array([example.class_id for example in dataset.examples], np.int64)
    if not distortions_of(config):
        return cross_validation.plain(read, labels, len(dataset.class_names))
    read = read.of(
        list_with_copies(dataset, copies=config.distortion_copies), terminal.progress("Bottlenecks of folds", "image")
    )
    rows = np.arange(len(labels) * (1 + config.distortion_copies)).reshape(len(labels), -1)
    return PhotoBottlenecks(read, labels, rows[:, 0], rows[:, 1:], len(dataset.class_names))


def _plan(chosen: Candidate) -> TrainingPlan:
    """Return the plan of the candidate's head, as long as it took to the weights that were kept."""
    plan = training_plan(chosen.config, chosen.prepared)
    if plan.patience is None:
        return plan
    of_the_head = [row for row in chosen.history if row.step < chosen.steps]
    return replace(plan, steps=max(of_the_head, key=lambda row: row.rank).step + 1)
