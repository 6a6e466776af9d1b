"""`RetrainConfig`: every setting of a run with its default, written once, and which values make sense."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from retrain import architectures
from retrain.errors import UsageError

_AT_LEAST = {
    "how_many_training_steps": 1,
    "eval_step_interval": 1,
    "train_batch_size": 1,
    "intermediate_store_frequency": 0,
    "distortion_copies": 0,
}
_AT_MOST = {  # of the distortions; beyond them lies no picture of the photo
    "random_crop": 1000,
    "random_scale": 1000,
    "random_brightness": 100,
    "random_rotation": 180,
    "random_shift": 100,
    "random_shear": 60,
    "random_zoom": 90,
}


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
    architecture: str = architectures.DEFAULT
    tfhub_module: str | None = None
    weights: str | None = None
    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    testing_percentage: float = 10
    validation_percentage: float = 10
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


def check(config: RetrainConfig) -> None:
    """Refuse values that make no sense.

    Raises:
        UsageError: Names the flag, its value and what it may be.
    """
    for name, least in _AT_LEAST.items():
        if getattr(config, name) < least:
            raise UsageError(f"--{name} is {getattr(config, name)}; it must be at least {least}.")
    for name, most in _AT_MOST.items():
        if not 0 <= getattr(config, name) <= most:
            raise UsageError(f"--{name} is {getattr(config, name):g}; it must be 0 to {most}.")
    for name in ("validation_batch_size", "test_batch_size"):
        if getattr(config, name) < 1 and getattr(config, name) != -1:
            raise UsageError(f"--{name} is {getattr(config, name)}; give -1 for all, or at least 1.")
    if not 0 < config.learning_rate < math.inf:
        raise UsageError(f"--learning_rate is {config.learning_rate:g}; it must be above 0.")
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", config.final_tensor_name):
        raise UsageError(
            f"--final_tensor_name is {config.final_tensor_name!r}; a node's name is letters, digits and _ . / - only."
        )
    if config.input_std == 0:
        raise UsageError("--input_std is 0; pixels are divided by it. 1 leaves them as they are.")
