"""`RetrainConfig`: every setting of a run, written once: its default, its help and which values it may have."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from retrain.backbones import catalogue, devices, engines
from retrain.data import grouping
from retrain.data.split import DEFAULT_SPLIT, SplitRule
from retrain.errors import UsageError
from retrain.evaluation import runs
from retrain.formats.table import EXPORTS
from retrain.preprocessing import ASPECT_MODES, LARGEST_SIDE, Scaling, scaling_problem
from retrain.storage.folders import Folder
from retrain.training import recipe


@dataclass(frozen=True)
class Rule:
    """Which values a setting may have, None always among them, and the words that say so."""

    allows: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class Setting:
    """What `--help` and `check` know of a field of `RetrainConfig`; `group` is that of it and the fields after it."""

    help: str
    metavar: str | None = None
    rule: Rule | None = None
    group: str | None = None


def _setting(
    default: Any, text: str, metavar: str | None = None, rule: Rule | None = None, *, group: str | None = None
) -> Any:
    return field(default=default, metadata={"setting": Setting(text, metavar, rule, group)})


def _at_least(least: int, most: int = 10**9) -> Rule:
    return Rule(lambda value: least <= value <= most, f"it must be at least {least} and at most {most:,}")


def _up_to(most: float) -> Rule:
    return Rule(lambda value: 0 <= value <= most, f"it must be 0 to {most}")


def _one_of(allowed: Sequence[str]) -> Rule:
    return Rule(lambda value: value in allowed, f"it must be one of {', '.join(allowed)}")


_LAYOUT = "folder of class folders, or of train/, validation/ and test/ with class folders each"
_LONGEST = 10_000 * 3600  # seconds
_PHOTOS = 10**6  # at most so many at once
_WORKERS = 100_000
_POSITIVE = Rule(lambda value: 0 < value < math.inf, "it must be above 0")
_RATE = Rule(
    lambda rate: rate == recipe.AUTO if isinstance(rate, str) else 0 < rate < math.inf,
    f"it must be above 0, or {recipe.AUTO}",
)
_BELOW_1 = Rule(lambda value: 0 <= value < 1, "it must be at least 0 and below 1")
_ALL_OR_SOME = Rule(
    lambda count: 1 <= count <= _PHOTOS or count == -1, f"give -1 for all, or at least 1 and at most {_PHOTOS:,}"
)
_NODE_NAME = Rule(
    lambda name: re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name) is not None,
    "a node's name is letters, digits and _ . / - only",
)


@dataclass(frozen=True)
class RetrainConfig:
    """Every setting of a run with its default; `retrain --help` says what each one means."""

    image_dir: Folder = field(metadata={"setting": Setting(_LAYOUT, "FOLDER", group="photos")})
    testing_percentage: float = _setting(DEFAULT_SPLIT.testing, "percentage of photos for the final test", "PERCENT")
    validation_percentage: float = _setting(DEFAULT_SPLIT.validation, "percentage of photos for validation", "PERCENT")

    group_by: str | None = _setting(
        None,
        "keep photos in one split that belong together: duplicates; exif (one camera, one day); or a regular "
        "expression, for paths in which it matches the same",
        "GROUPS",
        Rule(grouping.is_allowed, "give duplicates, exif, or a regular expression"),
    )

    output_graph: Path = _setting(
        Path("tf_files/retrained_graph.pb"), "the trained graph; a report is written beside it", "FILE", group="results"
    )
    output_labels: Path = _setting(
        Path("tf_files/retrained_labels.txt"), "the class names, one per line, spelt as the folders are", "FILE"
    )
    summaries_dir: Path = _setting(
        Path("tf_files/training_summaries"),
        "logs for TensorBoard; files there that are not retrain's are left alone",
        "FOLDER",
    )
    final_tensor_name: str = _setting("final_result", "name of the graph's output node", "NODE", _NODE_NAME)
    run_name: str | None = _setting(
        None,
        "name under which the run is kept in runs/ beside the graph, for `retrain runs` and `retrain compare` "
        "(default: the time)",
        "NAME",
        Rule(runs.is_name, runs.NAMES),
    )
    saved_model_dir: Path | None = _setting(None, "also write a SavedModel, which takes pixels 0 to 1", "FOLDER")
    export: tuple[str, ...] = _setting(
        (),
        f"also write these formats beside the graph, and measure each: {', '.join(EXPORTS)}",
        "FORMAT[,FORMAT...]",
        Rule(lambda names: set(names) <= set(EXPORTS), f"formats are {', '.join(EXPORTS)}"),
    )
    max_accuracy_drop: float = _setting(
        0.05, "fail if an exported format loses more test accuracy than this, 0 to 1", "DROP", _up_to(1)
    )
    intermediate_store_frequency: int = _setting(
        0, "steps between two intermediate graphs, 0 for none", "STEPS", _at_least(0)
    )
    intermediate_output_graphs_dir: Path = _setting(
        Path("tf_files/intermediate_graphs"), "folder of the intermediate_<step>.pb files", "FOLDER"
    )
    checkpoint_path: Path | None = _setting(
        None,
        "write the last layer as a TensorFlow checkpoint, which costs seconds (default: checkpoints/head.npz beside "
        "the graph)",
        "PREFIX",
    )

    how_many_training_steps: int = _setting(4000, "training steps", "STEPS", _at_least(1), group="training")
    how_many_epochs: float | None = _setting(
        None,
        "length of the training in passes over the training photos, instead of steps",
        "EPOCHS",
        Rule(lambda epochs: 0 < epochs <= 10**9, "it must be above 0 and at most 1,000,000,000"),
    )
    time_limit: float | None = _setting(
        None,
        "time for the whole command, 10m, 90s or 1h30m say: the last layer gets as many steps as fit, and fine-tuning "
        "goes on until what comes after it must begin",
        "TIME",
        Rule(lambda seconds: 1 <= seconds <= _LONGEST, "it must be 1s to 10000h"),
    )
    learning_rate: float | str = _setting(
        0.01,
        f"step size of gradient descent; {recipe.AUTO} tries rates first, and takes the best on the validation photos",
        "RATE",
        _RATE,
    )
    train_batch_size: int = _setting(100, "photos per training step", "PHOTOS", _at_least(1, _PHOTOS))
    validation_batch_size: int = _setting(100, "photos per validation, -1 for all", "PHOTOS", _ALL_OR_SOME)
    test_batch_size: int = _setting(
        -1, "photos of the final test, sampled at random; -1 for all", "PHOTOS", _ALL_OR_SOME
    )
    eval_step_interval: int = _setting(10, "steps between two evaluations", "STEPS", _at_least(1))
    random_seed: int = _setting(0, "the same seed and photos give the same graph", "SEED", _up_to(2**31 - 1))
    folds: int | None = _setting(
        None,
        "also cross-validate the last layer: divide all photos into so many folds, and score each by a last layer that "
        "was trained on the others; 5 or 10 are usual, and train 5 or 10 times; 0 does not (default: 5 where there are "
        "fewer than 200 test photos and that takes seconds)",
        "COUNT",
        Rule(lambda count: count == 0 or 2 <= count <= 100, "it must be 0, or at least 2 and at most 100"),
    )

    hidden_units: tuple[int, ...] = _setting(
        (),
        "sizes of dense layers with ReLU before the last layer: 512 256 for two, 0 for none (default: 0)",
        "UNITS",
        Rule(lambda units: all(1 <= n <= 2**16 for n in units), f"each must be at least 1 and at most {2**16:,}"),
        group="last layer",
    )
    dropout: float = _setting(0, "dropout rate", "RATE", _BELOW_1)
    l2: float | None = _setting(
        None,
        "factor of L2 regularisation, which adds the sum of squared weights to the loss "
        "(default: by the numbers of photos and features; 0 with hidden layers, and in fine-tuning)",
        "FACTOR",
        Rule(lambda value: 0 <= value < math.inf, "it must be at least 0"),
    )
    label_smoothing: float | None = _setting(
        None,
        "share of each label that is spread over all classes (default: 0; in fine-tuning 0.1)",
        "SHARE",
        _BELOW_1,
    )
    optimizer: str = _setting(
        "sgd",
        f"{', '.join(recipe.OPTIMIZERS[:-1])} or {recipe.OPTIMIZERS[-1]}; fine-tuning has its own",
        "NAME",
        _one_of(recipe.OPTIMIZERS),
    )
    learning_rate_schedule: str = _setting(
        "constant",
        "constant, or cosine, which falls to 0 at the last step; fine-tuning has its own",
        "SCHEDULE",
        _one_of(recipe.SCHEDULES),
    )
    early_stopping_patience: int | None = _setting(
        None, "stop after this many evaluations without improvement, and keep the best weights", "COUNT", _at_least(1)
    )

    fine_tune_from: str | None = _setting(
        None,
        "first layer to train: the name of a layer or block, a number of layers from the top, or all",
        "LAYER",
        Rule(bool, "name a layer, give a number, or all"),
        group="fine-tuning",
    )
    fine_tune_steps: int | None = _setting(
        None,
        "steps of fine-tuning, after those of the last layer (default: 20 epochs for a network of less than a million "
        "parameters, else 10)",
        "STEPS",
        _at_least(1),
    )
    fine_tune_learning_rate: float | None = _setting(
        None,
        "largest step size of fine-tuning, by AdamW: warms up to it, then falls to 0 (default: 0.0005 for a network "
        "of less than a million parameters, else 0.0003)",
        "RATE",
        _POSITIVE,
    )
    fine_tune_batch_size: int = _setting(32, "photos per step of fine-tuning", "PHOTOS", _at_least(1, _PHOTOS))
    distribution: str = _setting(
        "mirrored",
        "mirrored: on all GPUs of this machine; multi_worker: on the machines in TF_CONFIG, or else of the SLURM step; "
        "none: on one GPU",
        "STRATEGY",
        _one_of(devices.DISTRIBUTIONS),
    )

    # The limits are those beyond which nothing of the photo is left to see.
    flip_left_right: bool = _setting(False, "mirror half of the copies", group="distortions")
    random_crop: float = _setting(0, "margin to crop off at random, in percent of the size", "PERCENT", _up_to(1000))
    random_scale: float = _setting(0, "enlarge by up to this percentage", "PERCENT", _up_to(1000))
    random_brightness: float = _setting(0, "brighten or darken by up to this percentage", "PERCENT", _up_to(100))
    random_rotation: float = _setting(0, "rotate by up to this angle either way", "DEGREES", _up_to(180))
    random_shift: float = _setting(0, "shift by up to this percentage of the size", "PERCENT", _up_to(100))
    random_shear: float = _setting(0, "shear by up to this angle", "DEGREES", _up_to(60))
    random_zoom: float = _setting(0, "stretch or shrink each side by up to this percentage", "PERCENT", _up_to(90))
    distortion_copies: int = _setting(
        8,
        "distorted copies of each training photo, computed once and cached; 0 makes new ones at every step, as the "
        "original did, which is far slower",
        "COPIES",
        _at_least(0, 1000),
    )

    architecture: str = _setting(catalogue.DEFAULT, "the pretrained network, see below", "NAME", group="backbone")
    image_size: int | None = _setting(
        None,
        "side of the images, for efficientnet_lite, mobilenet_bundled and keras: networks",
        "PIXELS",
        _at_least(1, LARGEST_SIDE),
    )
    tfhub_module: str | None = _setting(
        None, "URL or folder of a TF-Hub image feature vector, instead of --architecture", "MODULE"
    )
    weights: str | None = _setting(
        None, "weights file for keras: networks and mobilenet_bundled; 'random' for tests", "FILE"
    )
    engine: str = _setting(
        engines.AUTO,
        "what runs the network: auto, which measures once on the photos, or one of litert, openvino and tensorflow",
        "ENGINE",
        _one_of(engines.ENGINES),
    )
    precision: str = _setting(
        engines.FLOAT32,
        "what features are computed in: float32, or bfloat16 or int8, which are faster where the processor has them",
        "PRECISION",
        _one_of(engines.PRECISIONS),
    )
    model_dir: Path = _setting(
        Path("tf_files/models"), "folder of downloaded backbones; put one there to avoid its download", "FOLDER"
    )
    bottleneck_dir: Folder = _setting(
        Path("tf_files/bottlenecks"),
        "cache of bottlenecks; the original's .txt files in it are used; at a URL, it keeps what workers compute for "
        "all machines, and each merges that into the default folder",
        "FOLDER",
    )
    bottleneck_tensor: str | None = _setting(
        None, "node or Keras layer whose output is the bottleneck, if not the usual one", "NODE"
    )
    input_layer: str | None = _setting(
        None, "node of a .pb file that takes the image, if it cannot be detected", "NODE"
    )
    input_height: int | None = _setting(
        None, "height of the image that the network takes", "PIXELS", _at_least(1, LARGEST_SIDE)
    )
    input_width: int | None = _setting(
        None, "width of the image that the network takes", "PIXELS", _at_least(1, LARGEST_SIDE)
    )
    input_mean: Scaling | None = _setting(
        None,
        "subtracted from pixels 0 to 255",
        "MEAN",
        Rule(lambda mean: not scaling_problem(mean, divides=False), "it must be one finite number or three"),
    )
    input_std: Scaling | None = _setting(
        None,
        "divides pixels after that",
        "STD",
        Rule(lambda std: not scaling_problem(std, divides=True), "pixels are divided by it; 1 leaves them as they are"),
    )

    keep_aspect_ratio: str | None = _setting(
        None,
        "letterbox: fit all of each photo in, between grey bars; crop: take its middle (default: squash it, as the "
        "original did)",
        "HOW",
        _one_of(ASPECT_MODES),
    )

    max_file_size: int | None = _setting(
        None,
        "largest file of any kind that is read, 8G say "
        "(default: 1G for an image, 4G for one of a model, 64M for labels)",
        "BYTES",
        _at_least(1, 2**62),
    )

    cluster: str | None = _setting(
        None,
        "compute on a Ray cluster: auto joins the one that runs, or starts one on this machine; or HOST:PORT",
        "ADDRESS",
        Rule(bool, "give auto, or HOST:PORT"),
        group="cluster",
    )
    cluster_min: int | None = _setting(
        None, "workers to keep, of up to 4 cores each", "WORKERS", _at_least(0, _WORKERS)
    )
    cluster_max: int | None = _setting(
        None,
        "workers at most; more than there is room for make an autoscaler add nodes (default: what there is room for)",
        "WORKERS",
        _at_least(1, _WORKERS),
    )

    print_misclassified_test_images: bool = _setting(
        False, "list the misclassified test photos with predicted class and score", group="messages"
    )

    @property
    def store_dir(self) -> Path:
        """Return where stores lie: this machine keeps them itself where `bottleneck_dir` is at a URL."""
        folder = self.bottleneck_dir
        return folder if isinstance(folder, Path) else Path(str(RetrainConfig.bottleneck_dir))

    @property
    def split_rule(self) -> SplitRule:
        """Return how images are split.

        Raises:
            UsageError: The percentages leave nothing to train on.
        """
        return SplitRule(self.validation_percentage, self.testing_percentage)

    def changed(self) -> dict[str, Any]:
        """Return the settings that are not as by default, the image folder among them, by their names."""
        values = ((each, getattr(self, each.name)) for each in fields(self))
        return {each.name: value for each, value in values if value != each.default}


# Default paths of the original `retrain.py`; its users' scripts look for the results there.
ORIGINAL_PATHS = {
    "output_graph": Path("/tmp/output_graph.pb"),
    "output_labels": Path("/tmp/output_labels.txt"),
    "summaries_dir": Path("/tmp/retrain_logs"),
    "bottleneck_dir": Path("/tmp/bottleneck"),
    "model_dir": Path("/tmp/imagenet"),
    "intermediate_output_graphs_dir": Path("/tmp/intermediate_graph"),
}


def settings_of(*groups: str) -> Iterator["Field[Any]"]:
    """Yield the settings in some groups of `--help`."""
    group = None
    for each in fields(RetrainConfig):
        group = each.metadata["setting"].group or group
        if group in groups:
            yield each


def check(config: RetrainConfig) -> None:
    """Refuse values that a setting may not have.

    Raises:
        UsageError: Names the flag, its value and what it may be.
    """
    for each in fields(config):
        check_value(each.name, getattr(config, each.name))


def check_value(name: str, value: Any) -> None:
    """Refuse a value that the setting `name` may not have; None is always one that it may.

    Raises:
        UsageError: Names the flag, its value and what it may be.
    """
    rule = next(each.metadata["setting"].rule for each in fields(RetrainConfig) if each.name == name)
    if rule is not None and value is not None and not rule.allows(value):
        raise UsageError(f"--{name} is {_text(value)}; {rule.words}.")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else repr(value)
