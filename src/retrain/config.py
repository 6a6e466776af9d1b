"""`RetrainConfig`: every setting of a run with its default, written once, and which values make sense."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain.backbones import catalogue, devices
from retrain.data.split import DEFAULT_SPLIT, SplitRule
from retrain.errors import UsageError
from retrain.formats.table import EXPORTS
from retrain.training import recipe


@dataclass(frozen=True)
class RetrainConfig:
    """Every setting of a run with its default; `retrain --help` says what each one means."""

    image_dir: Path
    output_graph: Path = Path("tf_files/retrained_graph.pb")
    output_labels: Path = Path("tf_files/retrained_labels.txt")
    summaries_dir: Path = Path("tf_files/training_summaries")
    bottleneck_dir: Path = Path("tf_files/bottlenecks")
    model_dir: Path = Path("tf_files/models")
    intermediate_output_graphs_dir: Path = Path("tf_files/intermediate_graphs")
    intermediate_store_frequency: int = 0
    checkpoint_path: Path = Path("tf_files/checkpoints/head")
    saved_model_dir: Path | None = None
    export: tuple[str, ...] = ()
    max_accuracy_drop: float = 0.05
    architecture: str = catalogue.DEFAULT
    tfhub_module: str | None = None
    weights: str | None = None
    image_size: int | None = None
    how_many_training_steps: int = 4000
    how_many_epochs: float | None = None
    learning_rate: float = 0.01
    learning_rate_schedule: str = "constant"
    optimizer: str = "sgd"
    hidden_units: tuple[int, ...] = ()
    dropout: float = 0
    l2: float = 0
    label_smoothing: float = 0
    early_stopping_patience: int | None = None
    fine_tune_from: str | None = None
    fine_tune_steps: int = 500
    fine_tune_learning_rate: float = 0.003
    fine_tune_batch_size: int = 32
    distribution: str = "mirrored"
    testing_percentage: float = DEFAULT_SPLIT.testing
    validation_percentage: float = DEFAULT_SPLIT.validation
    eval_step_interval: int = 10
    train_batch_size: int = 100
    test_batch_size: int = -1
    validation_batch_size: int = 100
    print_misclassified_test_images: bool = False
    final_tensor_name: str = "final_result"
    flip_left_right: bool = False
    random_crop: float = 0
    random_scale: float = 0
    random_brightness: float = 0
    random_rotation: float = 0
    random_shift: float = 0
    random_shear: float = 0
    random_zoom: float = 0
    distortion_copies: int = 8
    bottleneck_tensor: str | None = None
    input_layer: str | None = None
    input_height: int | None = None
    input_width: int | None = None
    input_mean: float | None = None
    input_std: float | None = None
    random_seed: int = 0

    @property
    def split_rule(self) -> SplitRule:
        """Return how images are split.

        Raises:
            UsageError: The percentages leave nothing to train on.
        """
        return SplitRule(self.validation_percentage, self.testing_percentage)


# What the original `retrain.py` writes to; its users' scripts look there for the results.
ORIGINAL_PATHS = {
    "output_graph": Path("/tmp/output_graph.pb"),
    "output_labels": Path("/tmp/output_labels.txt"),
    "summaries_dir": Path("/tmp/retrain_logs"),
    "bottleneck_dir": Path("/tmp/bottleneck"),
    "model_dir": Path("/tmp/imagenet"),
    "intermediate_output_graphs_dir": Path("/tmp/intermediate_graph"),
    "checkpoint_path": Path("/tmp/_retrain_checkpoint"),
}


@dataclass(frozen=True)
class _Rule:
    """Which values some settings may have, and the words that say so; None is always one of them."""

    allows: Callable[[Any], bool]
    words: str
    names: tuple[str, ...]


def _least(least: int, *names: str) -> _Rule:
    return _Rule(lambda value: value >= least, f"it must be at least {least}", names)


def _up_to(most: float, *names: str) -> _Rule:
    return _Rule(lambda value: 0 <= value <= most, f"it must be 0 to {most}", names)


def _one_of(allowed: Sequence[str], name: str) -> _Rule:
    return _Rule(lambda value: value in allowed, f"it must be one of {', '.join(allowed)}", (name,))


_RULES = (
    _least(1, "how_many_training_steps", "eval_step_interval", "train_batch_size", "early_stopping_patience"),
    _least(1, "image_size", "fine_tune_steps", "fine_tune_batch_size"),
    _least(0, "intermediate_store_frequency", "distortion_copies"),
    # Of the distortions: beyond these lies no picture of the photo.
    _up_to(1000, "random_crop", "random_scale"),
    _up_to(100, "random_brightness", "random_shift"),
    _up_to(180, "random_rotation"),
    _up_to(60, "random_shear"),
    _up_to(90, "random_zoom"),
    _Rule(lambda n: n >= 1 or n == -1, "give -1 for all, or at least 1", ("validation_batch_size", "test_batch_size")),
    _Rule(
        lambda value: 0 < value < math.inf,
        "it must be above 0",
        ("learning_rate", "fine_tune_learning_rate", "how_many_epochs"),
    ),
    _Rule(lambda value: 0 <= value < 1, "it must be at least 0 and below 1", ("dropout", "label_smoothing")),
    _Rule(lambda value: 0 <= value < math.inf, "it must be at least 0", ("l2",)),
    _Rule(lambda units: all(n >= 1 for n in units), "each must be at least 1", ("hidden_units",)),
    _Rule(lambda std: std != 0, "pixels are divided by it; 1 leaves them as they are", ("input_std",)),
    _Rule(
        lambda name: re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name) is not None,
        "a node's name is letters, digits and _ . / - only",
        ("final_tensor_name",),
    ),
    _up_to(2**31 - 1, "random_seed"),
    _up_to(1, "max_accuracy_drop"),
    _Rule(lambda names: set(names) <= set(EXPORTS), f"formats are {', '.join(EXPORTS)}", ("export",)),
    _one_of(recipe.OPTIMIZERS, "optimizer"),
    _one_of(recipe.SCHEDULES, "learning_rate_schedule"),
    _one_of(devices.DISTRIBUTIONS, "distribution"),
)


def check(config: RetrainConfig) -> None:
    """Refuse values that make no sense.

    Raises:
        UsageError: Names the flag, its value and what it may be.
    """
    for rule in _RULES:
        for name in rule.names:
            value = getattr(config, name)
            if value is not None and not rule.allows(value):
                shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
                shown = repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else shown
                raise UsageError(f"--{name} is {shown}; {rule.words}.")
