"""What settings ask of a training: its head, its length, its distortions and its fine-tuning."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrain.bottlenecks.preparation import PreparedDataset
from retrain.config import RetrainConfig
from retrain.data import distortions
from retrain.data.dataset import Dataset
from retrain.data.distortions import Distortions
from retrain.data.split import Split
from retrain.errors import UsageError
from retrain.formats import frozen_graph
from retrain.training import head_training, schedule
from retrain.training.recipe import AUTO, FineTuningPlan, HeadRecipe, TrainingPlan, fine_tuning_defaults

_PARAMETER_BYTES = 4  # of a frozen graph, which is little else
_FINE_TUNING_EVALUATIONS = 20  # at least
_MOST_SAMPLES = 2**28  # of a training, 8 bytes each


def training_plan(config: RetrainConfig, prepared: PreparedDataset) -> TrainingPlan:
    """Return the length of the head's training and its evaluations."""
    return TrainingPlan(
        steps=steps_of(config, prepared.dataset),
        batch_size=config.train_batch_size,
        validation_batch_size=config.validation_batch_size,
        eval_step_interval=config.eval_step_interval,
        seed=config.random_seed,
        patience=config.early_stopping_patience,
        checkpoint_every=config.intermediate_store_frequency,
    )


def fine_tuning_plan(
    config: RetrainConfig, prepared: PreparedDataset, checkpoint: Path, strategy: Any
) -> FineTuningPlan:
    """Return how the network is fine-tuned; an interrupted run is resumed from the file `checkpoint`."""
    photos, batch_size = sum(prepared.dataset.counts(Split.TRAINING)), config.fine_tune_batch_size
    epoch = max(1, round(photos / batch_size))
    defaults = fine_tuning_defaults(prepared.backbone.graph.stat().st_size // _PARAMETER_BYTES)
    steps = config.fine_tune_steps or defaults.epochs * epoch
    return FineTuningPlan(
        start=config.fine_tune_from or "",
        recipe=fine_tuning_recipe(config, defaults.learning_rate),
        steps=steps,
        batch_size=batch_size,
        steps_per_evaluation=max(1, min(epoch, steps // _FINE_TUNING_EVALUATIONS)),
        seed=config.random_seed,
        patience=config.early_stopping_patience,
        checkpoint=checkpoint,
        strategy=strategy,
    )


def recipe_of(config: RetrainConfig) -> HeadRecipe:
    """Return the head and its optimizer."""
    return HeadRecipe(  # a rate that is to be found is the default one until then
        learning_rate=HeadRecipe.learning_rate if config.learning_rate == AUTO else float(config.learning_rate),
        hidden_units=config.hidden_units,
        dropout=config.dropout,
        l2=config.l2,
        label_smoothing=config.label_smoothing or 0.0,
        optimizer=config.optimizer,
        schedule=config.learning_rate_schedule,
    )


def is_trained_in_numpy(config: RetrainConfig, prepared: PreparedDataset) -> bool:
    """Return whether the head is small and plain enough to be trained without TensorFlow."""
    weights = prepared.backbone.dimension * len(prepared.dataset.class_names)
    return head_training.needs_no_tensorflow(recipe_of(config), weights)


def fine_tuning_recipe(config: RetrainConfig, learning_rate: float) -> HeadRecipe:
    """Return the head as a fine-tuning trains it, whose largest step size is `learning_rate` unless one is set."""
    return replace(
        recipe_of(config),
        learning_rate=config.fine_tune_learning_rate or learning_rate,
        label_smoothing=schedule.LABEL_SMOOTHING if config.label_smoothing is None else config.label_smoothing,
    )


def distortions_of(config: RetrainConfig) -> Distortions:
    """Return what may happen to training images."""
    return Distortions(**{name: getattr(config, name) for name in distortions.NAMES})


def scope_of(config: RetrainConfig) -> str:
    """Return the first part of the names of the head's nodes."""
    return frozen_graph.HUB_HEAD_SCOPE if config.tfhub_module else frozen_graph.HEAD_SCOPE


def steps_of(config: RetrainConfig, dataset: Dataset) -> int:
    """Return the steps to train; an epoch is as many photos as there are training photos."""
    if config.how_many_epochs is None:
        return config.how_many_training_steps
    photos = sum(dataset.counts(Split.TRAINING))
    return max(1, math.ceil(config.how_many_epochs * photos / config.train_batch_size))


def check_length(config: RetrainConfig, dataset: Dataset) -> None:
    """Refuse a training that is too long: all its samples are drawn before the first step.

    Raises:
        UsageError: Names the flags.
    """
    steps = steps_of(config, dataset)
    evaluations = steps // config.eval_step_interval + steps // (config.intermediate_store_frequency or steps) + 1
    length = "how_many_training_steps" if config.how_many_epochs is None else "how_many_epochs"
    samples = {
        f"--{length} with this --train_batch_size": steps * config.train_batch_size,
        "--validation_batch_size with this --eval_step_interval": evaluations * config.validation_batch_size,
    }
    for flags, count in samples.items():
        if count > _MOST_SAMPLES:
            raise UsageError(f"{flags} samples {count:,} photos; it may be {_MOST_SAMPLES:,}. Give less of either.")
