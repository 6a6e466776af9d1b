"""argparse for `retrain` and `label_image`; turns `RetrainError` into one line and an exit code."""

import argparse
import difflib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from retrain import __version__, architectures
from retrain.config import RetrainConfig
from retrain.errors import RetrainError, UsageError, printable

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
_DEFAULTS = {field.name: field.default for field in fields(RetrainConfig)}


def retrain_command() -> NoReturn:
    """Run `retrain` on the process's arguments and exit with its code."""
    sys.exit(_run(retrain_main, sys.argv[1:]))


def label_image_command() -> NoReturn:
    """Run `label_image` on the process's arguments and exit with its code."""
    sys.exit(_run(label_image_main, sys.argv[1:]))


def retrain_main(arguments: Sequence[str]) -> int:
    """Train as the flags say and return the exit code.

    Raises:
        RetrainError: Something that the user can mend.
    """
    given = vars(_parse(retrain_parser(), arguments))
    _quieten(verbose=given.pop("verbose"))
    if given["image_dir"] is None:
        raise UsageError("--image_dir is missing. Give it a folder that holds one sub-folder of photos per class.")
    # Behind the flags: --help and a mistyped flag need not wait for numpy.
    from retrain.pipeline import retrain
    from retrain.report import Terminal

    config = RetrainConfig(**given)
    retrain(config, Terminal())
    print(f"Label a photo:  label_image --graph {config.output_graph} PHOTO.jpg")
    print(f"See the curves: tensorboard --logdir {config.summaries_dir}")
    return DONE


def label_image_main(arguments: Sequence[str]) -> int:
    """Print the best classes of each image and return the exit code, 1 if an image could not be read.

    Raises:
        RetrainError: Something that the user can mend.
    """
    given = _parse(label_image_parser(), arguments)
    _quieten(verbose=given.verbose)
    paths = ([given.image] if given.image else []) + given.images
    if not paths:
        raise UsageError("no image given. Name one or more image files or folders.")
    from retrain import label
    from retrain.classifier import Metadata

    own = Metadata(
        input=given.input_layer,
        output=given.output_layer,
        height=given.input_height,
        width=given.input_width,
        mean=given.input_mean,
        std=given.input_std,
    )
    files = label.images(paths)
    if not files:
        raise UsageError(f"no image files in {', '.join(str(path) for path in paths)}.")
    model = label.load(given.graph, labels=given.labels, own=own)
    code, single, started = DONE, len(files) == 1 and not paths[0].is_dir(), time.perf_counter()
    for result in label.label(model, files):
        if given.json:
            ranked = [{"label": r.label, "score": round(r.score, 6)} for r in result.ranked]
            outcome = {"error": result.error} if result.error else {"labels": ranked}
            print(json.dumps({"image": str(result.path), **outcome}), flush=True)
        elif not result.error:
            heading = f"\nEvaluation time (1-image): {time.perf_counter() - started:.3f}s\n" if single else result.path
            print(printable(str(heading)) if not single else heading)
            for r in result.ranked:
                print(f"{printable(r.label)} (score={r.score:.5f})")
            print("", end="" if single else "\n", flush=True)
        if result.error:
            code = FAILED
            print(f"label_image: {printable(str(result.path))}: {result.error}", file=sys.stderr)
        started = time.perf_counter()
    return code


def retrain_parser() -> argparse.ArgumentParser:
    """Return the parser of `retrain`; its defaults are those of `RetrainConfig`."""
    parser = argparse.ArgumentParser(
        prog="retrain",
        description="Trains an image classifier on a folder of photos: one sub-folder for each class.",
        epilog=_architectures_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def group(title: str) -> Callable[..., None]:
        target = parser.add_argument_group(title)

        def add(name: str, kind: Callable[[str], object], text: str, **options: Any) -> None:
            default = _DEFAULTS.get(name)
            shown = f" (default: {default})" if isinstance(default, str | int | float | Path) else ""
            target.add_argument(
                f"--{name}",
                type=kind,
                default=default if name != "image_dir" else None,
                help=text + shown,
                **options,
            )

        return add

    add = group("photos")
    add(
        "image_dir",
        Path,
        "folder of class folders, or of train/, validation/ and test/ with class folders each",
    )
    add("testing_percentage", float, "share of the photos held out for the final test")
    add("validation_percentage", float, "share of the photos held out to watch the training")

    add = group("results")
    add("output_graph", Path, "the trained graph; a report is written beside it")
    add("output_labels", Path, "the class names, one a line")
    add("summaries_dir", Path, "what TensorBoard shows")
    add("final_tensor_name", str, "name of the output node of the graph")

    add = group("training")
    add("how_many_training_steps", int, "training steps")
    add("learning_rate", float, "how far each step goes")
    add("train_batch_size", int, "photos a step")
    add("validation_batch_size", int, "photos a validation, -1 for all")
    add("eval_step_interval", int, "steps from one evaluation to the next")
    add("random_seed", int, "the same seed and photos give the same graph")

    add = group("backbone")
    add("architecture", str, "the pretrained network, see below", metavar="NAME")
    add("tfhub_module", str, "a TF-Hub image feature vector, a URL or a folder, instead of --architecture")
    add(
        "weights",
        str,
        "weights file for keras: names and the bundled one; 'random' for tests",
        metavar="FILE",
    )
    add("model_dir", Path, "where backbones are downloaded to, or lie already")
    add("bottleneck_dir", Path, "where bottlenecks are kept for the next run")
    add(
        "bottleneck_tensor",
        str,
        "node or Keras layer whose output is the bottleneck, if not the usual one",
        metavar="NODE",
    )
    add("input_layer", str, "node of a .pb file that takes the image, if it cannot be told", metavar="NODE")
    add("input_height", int, "rows of the image that the network takes", metavar="PIXELS")
    add("input_width", int, "columns of the image that the network takes", metavar="PIXELS")
    add("input_mean", float, "subtracted from pixels 0 to 255", metavar="MEAN")
    add("input_std", float, "divides pixels after that", metavar="STD")

    target = parser.add_argument_group("messages")
    target.add_argument(
        "--print_misclassified_test_images",
        action="store_true",
        help="list the test photos that were wrong, with the true label and the score",
    )
    _add_common(target)
    return parser


def label_image_parser() -> argparse.ArgumentParser:
    """Return the parser of `label_image`."""
    parser = argparse.ArgumentParser(
        prog="label_image",
        description="Names what is in photos, with a graph that retrain (or the original retrain.py) wrote.",
    )
    parser.add_argument("images", nargs="*", type=Path, help="image files, or folders of them")
    parser.add_argument("--image", type=Path, help="one more image, as in the codelab")
    parser.add_argument("--graph", type=Path, default=_DEFAULTS["output_graph"], help="default: %(default)s")
    parser.add_argument("--labels", type=Path, help="labels file, where the graph has no labels inside")
    parser.add_argument("--input_layer", help="node that takes the image", metavar="NODE")
    parser.add_argument("--output_layer", help="node that gives the scores", metavar="NODE")
    parser.add_argument("--input_height", type=int, help="rows of the image", metavar="PIXELS")
    parser.add_argument("--input_width", type=int, help="columns of the image", metavar="PIXELS")
    parser.add_argument("--input_mean", type=float, help="subtracted from pixels 0 to 255", metavar="MEAN")
    parser.add_argument("--input_std", type=float, help="divides pixels after that", metavar="STD")
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")
    _add_common(parser)
    return parser


def _add_common(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--verbose", action="store_true", help="let TensorFlow print its own messages")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def _architectures_help() -> str:
    keras = ", ".join(name for name in architectures.names() if name.startswith("keras:"))
    return (
        "architectures:\n"
        "  mobilenet_bundled            inside the package, needs no network; good enough to start and to learn\n"
        "  mobilenet_<W>_<S>[_quantized]  W: 1.0 0.75 0.50 0.25, S: 224 192 160 128; the codelab's, downloaded\n"
        "  inception_v3                 the original's default, 89 MB, downloaded\n"
        "  keras:<name>                 any classifier of keras.applications, downloaded or --weights FILE:\n"
        + _wrapped(keras.replace("keras:", ""), 31)
        + "\n  PATH                         a frozen graph (.pb), a Keras model (.keras) or a SavedModel folder\n"
    )


def _wrapped(text: str, indent: int) -> str:
    import textwrap

    return textwrap.fill(text, 110, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown[0].split("=")[0], flags, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"unknown argument {unknown[0]}.{hint} `{parser.prog} --help` lists all.")
    return parsed


def _quieten(*, verbose: bool) -> None:
    """Keep TensorFlow and its libraries from talking; must come before TensorFlow is imported."""
    if verbose:
        return
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    # C++ code writes to the descriptor whatever TF_CPP_MIN_LOG_LEVEL says; Python keeps the real one for itself.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    real = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.stderr = real


def _run(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Return the exit code of a command; this is where its errors become one line."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding lacks must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    name = main.__name__.removesuffix("_main")
    try:
        return main(arguments)
    except UsageError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return BAD_USAGE
    except RetrainError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            f"\n{name}: interrupted. What was finished is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
