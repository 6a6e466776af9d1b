"""The flags of `retrain` and `label_image`, those of the originals among them, and how arguments are read."""

import argparse
import difflib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrain import __version__
from retrain.backbones import catalogue
from retrain.config import RetrainConfig
from retrain.data.split import DEFAULT_SPLIT, Split
from retrain.errors import UsageError
from retrain.formats.table import EXPORTS
from retrain.sweep import SWEEPABLE
from retrain.training import recipe

if TYPE_CHECKING:
    from retrain.metadata import Metadata

DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(RetrainConfig)}
ALL = "all"  # of the splits that `evaluate` knows
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# The flags of the codelab's retrain.py, and those that TF-Hub's added. An abbreviation that was clear to the one or
# the other means what it meant, whatever flags came since.
_OF_THE_CODELAB = """
    image_dir output_graph intermediate_output_graphs_dir intermediate_store_frequency output_labels summaries_dir
    how_many_training_steps learning_rate testing_percentage validation_percentage eval_step_interval train_batch_size
    test_batch_size validation_batch_size print_misclassified_test_images model_dir bottleneck_dir final_tensor_name
    architecture flip_left_right random_crop random_scale random_brightness help
""".split()
_OF_HUB = [
    *(name for name in _OF_THE_CODELAB if name not in ("model_dir", "architecture")),
    *("tfhub_module", "saved_model_dir", "logging_verbosity", "checkpoint_path"),
]
_OF_LABEL_IMAGE = (
    "image graph labels input_height input_width input_mean input_std input_layer output_layer help".split()
)


def retrain_parser(paths: Mapping[str, Path] | None = None) -> argparse.ArgumentParser:
    """Return the parser of `retrain`; its defaults are those of `RetrainConfig`, with `paths` in their places."""
    parser = _Parser(
        originals=(_OF_THE_CODELAB, _OF_HUB),
        prog="retrain",
        description="Trains an image classifier on a folder of photos: one sub-folder for each class.",
        epilog=_architectures_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = {**DEFAULTS, "image_dir": None, **(paths or {})}
    _add_photos(parser.add_argument_group("photos"), defaults)
    _add_results(parser.add_argument_group("results"), defaults)
    _add_training(parser.add_argument_group("training"), defaults)
    _add_head(parser.add_argument_group("last layer", "The original's, unless one of these is given."), defaults)
    _add_fine_tuning(
        parser.add_argument_group(
            "fine-tuning", "Train the upper layers of mobilenet_bundled, keras: networks and .keras files as well."
        ),
        defaults,
    )
    _add_distortions(
        parser.add_argument_group(
            "distortions", "Train on distorted copies of the training photos, drawn from one seed; percent or degrees."
        ),
        defaults,
    )
    _add_backbone(parser.add_argument_group("backbone"), defaults)
    messages = parser.add_argument_group("messages")
    _add_switch(
        messages, "print_misclassified_test_images", "list the test photos that were wrong, as what and how sure"
    )
    messages.add_argument(
        "--logging_verbosity",
        type=_level,
        default="INFO",
        metavar="LEVEL",
        help="the least that is printed: DEBUG, INFO (steps and results), WARN, ERROR or FATAL (default: INFO)",
    )
    _add_common(messages)
    return parser


def label_image_parser() -> argparse.ArgumentParser:
    """Return the parser of `label_image`."""
    parser = _Parser(
        originals=(_OF_LABEL_IMAGE,),
        prog="label_image",
        description="Names what is in photos, with a graph that retrain (or the original retrain.py) wrote.",
    )
    parser.add_argument(
        "images", nargs="*", help="image files, folders of them, patterns; - reads paths from standard input"
    )
    parser.add_argument("--image", help="one more image, as in the codelab")
    _add_graph(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one row per image and class: rank, label, score")
    parser.add_argument("--top_k", type=int, default=5, help="classes to print (default: %(default)s)", metavar="K")
    parser.add_argument(
        "--min_score", type=float, default=0.0, help="leave out classes below it, 0 to 1", metavar="SCORE"
    )
    parser.add_argument(
        "--sort_into", type=Path, help="copy each image into a folder of its class in here", metavar="FOLDER"
    )
    parser.add_argument("--link", action="store_true", help="make symbolic links there in place of copies")
    parser.add_argument("--describe", action="store_true", help="print what the graph is, and label nothing")
    _add_common(parser)
    return parser


def evaluate_parser() -> argparse.ArgumentParser:
    """Return the parser of `evaluate`."""
    parser = _Parser(
        originals=(),
        prog="evaluate",
        description="Measures a model, of retrain or of anyone else, on a folder of class folders.",
    )
    parser.add_argument("model", nargs="?", type=Path, help="the model, as --graph")
    _add_graph(parser)
    parser.add_argument(
        "--image_dir",
        type=Path,
        default=Path("tf_files/flower_photos"),
        help="folder of class folders, or of train/, validation/ and test/ (default: %(default)s)",
    )
    parser.add_argument(
        "--split", choices=(*Split, ALL), default=Split.TESTING,
        help="which of its images; those that a training left for testing, by default",
    )  # fmt: skip
    parser.add_argument(
        "--testing_percentage", type=float, default=DEFAULT_SPLIT.testing, help="as in training (default: %(default)s)"
    )
    parser.add_argument(
        "--validation_percentage",
        type=float,
        default=DEFAULT_SPLIT.validation,
        help="as in training (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with all figures")
    parser.add_argument("--predictions", type=Path, help="write what was said of each image as CSV", metavar="FILE")
    _add_common(parser)
    return parser


def own_metadata(given: argparse.Namespace) -> "Metadata":
    """Return what the user said of a model by its flags."""
    # Behind the flags: --help and a mistyped flag need not wait for numpy.
    from retrain.metadata import Metadata
    from retrain.preprocessing import InputSpec

    spec = InputSpec(given.input_layer, given.input_height, given.input_width, given.input_mean, given.input_std)
    return Metadata(input=spec, output=given.output_layer)


def _add_graph(parser: argparse._ActionsContainer) -> None:
    """Add which model is meant, and what a user may have to say of one that does not say it itself."""
    parser.add_argument(
        "--graph", type=Path, default=DEFAULTS["output_graph"],
        help="a model: .pb, .tflite, .keras, .onnx or a SavedModel's folder (default: %(default)s)",
    )  # fmt: skip
    add_graph_flags(parser)


def add_graph_flags(parser: argparse._ActionsContainer) -> None:
    """Add what a user may have to say of a model that does not say it itself."""
    parser.add_argument("--labels", type=Path, help="labels file, where the graph has no labels inside")
    parser.add_argument("--input_layer", help="node or argument that takes the image", metavar="NODE")
    parser.add_argument("--output_layer", help="node or result that gives the scores", metavar="NODE")
    parser.add_argument("--input_height", type=int, help="rows of the image", metavar="PIXELS")
    parser.add_argument("--input_width", type=int, help="columns of the image", metavar="PIXELS")
    parser.add_argument(
        "--input_mean", type=float, help="subtracted from pixels 0 to 255; 0 is a value too", metavar="MEAN"
    )
    parser.add_argument("--input_std", type=float, help="divides pixels after that", metavar="STD")


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments.

    Raises:
        UsageError: One is unknown, which the originals passed over in silence; names the nearest.
    """
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[0].split("=")[0], flags, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"unknown argument {unknown[0]}.{hint} `{parser.prog} --help` lists all.")
    return parsed


class _Parser(argparse.ArgumentParser):
    """A parser that knows which flags the originals had, so that their abbreviations go on working."""

    def __init__(self, *, originals: Sequence[Sequence[str]], **options: Any) -> None:
        super().__init__(**options)
        self._originals = originals

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as always, after writing out abbreviations of the originals' flags."""
        return super().parse_known_args([self._written_out(word) for word in args or ()], namespace)

    def _written_out(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        for flags in self._originals:
            meant = [flag for flag in flags if flag.startswith(name[2:])]
            if len(meant) == 1:
                return f"--{meant[0]}{equals}{value}"
        return word


def _add(
    group: argparse._ActionsContainer,
    defaults: Mapping[str, Any],
    name: str,
    kind: Callable[[str], object],
    text: str,
    metavar: str | None = None,
) -> None:
    """Add a flag; one of those that a sweep may vary takes several values with commas between, and gives a tuple."""
    default = defaults[name]
    shown = f" (default: {default})" if default is not None else ""
    if name in SWEEPABLE:
        text, kind, default = f"{text}; several with commas between are all tried", _several(kind), (default,)
    group.add_argument(f"--{name}", type=kind, default=default, help=text + shown, metavar=metavar)


def _several(kind: Callable[[str], object]) -> Callable[[str], object]:
    def values(word: str) -> tuple[object, ...]:
        return tuple(dict.fromkeys(kind(part.strip()) for part in word.split(",")))

    values.__name__ = kind.__name__  # what argparse calls it in "invalid float value"
    return values


def hidden_units(words: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Return what `--hidden_units` means: the layers of each head to try.

    Raises:
        UsageError: Not whole numbers.
    """
    if not words:
        return ((),)
    try:
        heads = [[int(word) for word in head.split()] for head in " ".join(words).split(",")]
    except ValueError as error:
        raise UsageError(f"--hidden_units is {' '.join(words)!r}; give whole numbers.") from error
    return tuple(() if head == [0] else tuple(head) for head in heads)


def _add_switch(group: argparse._ActionsContainer, name: str, text: str) -> None:
    """Add a flag that is on where it stands; the `True` that people write behind it is understood, and `False` too."""
    group.add_argument(f"--{name}", nargs="?", type=_truth, const=True, default=False, metavar="True", help=text)


def _add_photos(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    layout = "folder of class folders, or of train/, validation/ and test/ with class folders each"
    _add(group, defaults, "image_dir", Path, layout)
    _add(group, defaults, "testing_percentage", float, "share of the photos held out for the final test")
    _add(group, defaults, "validation_percentage", float, "share of the photos held out to watch the training")


def _add_results(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    _add(group, defaults, "output_graph", Path, "the trained graph; a report is written beside it")
    _add(group, defaults, "output_labels", Path, "the class names, one a line, spelt as the folders are")
    _add(
        group, defaults, "summaries_dir", Path,
        "what TensorBoard shows; files that are not retrain's are left alone",
    )  # fmt: skip
    _add(group, defaults, "final_tensor_name", str, "name of the output node of the graph")
    _add(group, defaults, "saved_model_dir", Path, "write a SavedModel too, which takes pixels 0 to 1", "FOLDER")
    group.add_argument(
        "--export", type=_names, default=defaults["export"], metavar="FORMAT[,FORMAT...]",
        help=f"write these beside the graph too, and measure each: {', '.join(EXPORTS)}",
    )  # fmt: skip
    _add(group, defaults, "max_accuracy_drop", float, "fail when one of them loses more test accuracy, 0 to 1", "SHARE")
    _add(
        group, defaults, "intermediate_store_frequency", int,
        "steps from one intermediate graph to the next, 0 for none", "STEPS",
    )  # fmt: skip
    _add(group, defaults, "intermediate_output_graphs_dir", Path, "where intermediate_<step>.pb are written", "FOLDER")
    _add(group, defaults, "checkpoint_path", Path, "the head's variables as a checkpoint of TensorFlow", "PREFIX")


def _add_training(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    length = group.add_mutually_exclusive_group()
    _add(length, defaults, "how_many_training_steps", int, "training steps")
    _add(length, defaults, "how_many_epochs", float, "instead of steps: how often to see as many photos as there are")
    _add(group, defaults, "learning_rate", float, "how far each step goes")
    _add(group, defaults, "train_batch_size", int, "photos a step")
    _add(group, defaults, "validation_batch_size", int, "photos a validation, -1 for all")
    _add(group, defaults, "test_batch_size", int, "photos of the final test, drawn at random; -1 for all")
    _add(group, defaults, "eval_step_interval", int, "steps from one evaluation to the next")
    _add(group, defaults, "random_seed", int, "the same seed and photos give the same graph")


def _add_head(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    group.add_argument(
        "--hidden_units",
        nargs="+",
        action="extend",
        metavar="UNITS",
        help="dense layers with ReLU in front of the last one: 512 256 for two; 0 for none (default: 0)",
    )
    _add(group, defaults, "dropout", float, "share of what a layer takes that is left out at each step", "SHARE")
    _add(group, defaults, "l2", float, "times the sum of the squared weights is added to the loss", "FACTOR")
    _add(group, defaults, "label_smoothing", float, "share of each label spread over all classes", "SHARE")
    rules = ", ".join(recipe.OPTIMIZERS[:-1]) + f" or {recipe.OPTIMIZERS[-1]}"
    _add(group, defaults, "optimizer", str, rules)
    _add(group, defaults, "learning_rate_schedule", str, "constant, or cosine: down to 0 at the last step", "SCHEDULE")
    _add(
        group, defaults, "early_stopping_patience", int,
        "stop after so many evaluations without a better one, and keep the best weights", "EVALUATIONS",
    )  # fmt: skip


def _add_fine_tuning(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    _add(
        group, defaults, "fine_tune_from", str,
        "train this layer and all above it too: its name, a block's, or a number of layers from the top", "LAYER",
    )  # fmt: skip
    group.add_argument("--list_layers", action="store_true", help="print the layers of the network, and do no more")
    _add(group, defaults, "fine_tune_steps", int, "steps, after those of the last layer", "STEPS")
    _add(group, defaults, "fine_tune_learning_rate", float, "how far each of them goes", "RATE")
    _add(group, defaults, "fine_tune_batch_size", int, "photos a step", "PHOTOS")
    _add(
        group, defaults, "distribution", str,
        "mirrored: on every GPU of this machine; multi_worker: on the machines in TF_CONFIG; none: on one GPU", "HOW",
    )  # fmt: skip


def _add_distortions(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    _add_switch(group, "flip_left_right", "mirror half of the copies")
    _add(group, defaults, "random_crop", float, "margin that is cropped from, percent", "PERCENT")
    _add(group, defaults, "random_scale", float, "enlarge by up to so much, percent", "PERCENT")
    _add(group, defaults, "random_brightness", float, "lighten or darken by up to so much, percent", "PERCENT")
    _add(group, defaults, "random_rotation", float, "turn by up to so many degrees either way", "DEGREES")
    _add(group, defaults, "random_shift", float, "move by up to so much of the size, percent", "PERCENT")
    _add(group, defaults, "random_shear", float, "slant by up to so many degrees", "DEGREES")
    _add(group, defaults, "random_zoom", float, "stretch or shrink each side by up to so much, percent", "PERCENT")
    _add(
        group, defaults, "distortion_copies", int,
        "copies of each training photo, made once and kept; 0 makes new ones at every step, as the original did, "
        "which takes far longer", "COPIES",
    )  # fmt: skip


def _add_backbone(group: argparse._ActionsContainer, defaults: Mapping[str, Any]) -> None:
    _add(group, defaults, "architecture", str, "the pretrained network, see below", "NAME")
    _add(
        group, defaults, "image_size", int,
        "side of the images, for mobilenet_bundled and keras: networks, which work at most sizes", "PIXELS",
    )  # fmt: skip
    hub = "a TF-Hub image feature vector, a URL or a folder, instead of --architecture"
    _add(group, defaults, "tfhub_module", str, hub)
    weights = "weights file for keras: names and the bundled one; 'random' for tests"
    _add(group, defaults, "weights", str, weights, "FILE")
    _add(group, defaults, "model_dir", Path, "where backbones are downloaded to, or lie already")
    kept = "where bottlenecks are kept for the next run; the original's .txt files in it are read"
    _add(group, defaults, "bottleneck_dir", Path, kept)
    tensor = "node or Keras layer whose output is the bottleneck, if not the usual one"
    _add(group, defaults, "bottleneck_tensor", str, tensor, "NODE")
    _add(group, defaults, "input_layer", str, "node of a .pb file that takes the image, if it cannot be told", "NODE")
    _add(group, defaults, "input_height", int, "rows of the image that the network takes", "PIXELS")
    _add(group, defaults, "input_width", int, "columns of the image that the network takes", "PIXELS")
    _add(group, defaults, "input_mean", float, "subtracted from pixels 0 to 255", "MEAN")
    _add(group, defaults, "input_std", float, "divides pixels after that", "STD")


def _add_common(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--verbose", action="store_true", help="say what was found out about the network, and let TensorFlow talk"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def _names(word: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in word.split(",") if name.strip()))


def _truth(word: str) -> bool:
    if word.lower() in ("true", "t", "yes", "1"):
        return True
    if word.lower() in ("false", "f", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")


def _level(word: str) -> str:
    level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(word.upper(), word.upper())
    if level not in LEVELS:
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(LEVELS)}")
    return level


def _architectures_help() -> str:
    keras = ", ".join(name for name in catalogue.names() if name.startswith("keras:"))
    indent = " " * 31
    names = textwrap.fill(keras.replace("keras:", ""), 110, initial_indent=indent, subsequent_indent=indent)
    return (
        "architectures:\n"
        "  mobilenet_bundled            inside the package, needs no network; good enough to start and to learn\n"
        "  mobilenet_<W>_<S>[_quantized]  W: 1.0 0.75 0.50 0.25, S: 224 192 160 128; the codelab's, downloaded\n"
        "  inception_v3                 the original's default, 89 MB, downloaded\n"
        "  keras:<name>                 any classifier of keras.applications, downloaded or --weights FILE:\n"
        f"{names}\n"
        "  PATH                         a frozen graph (.pb), a Keras model (.keras) or a SavedModel folder\n"
    )
