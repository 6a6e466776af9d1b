"""The commands `retrain` and `label_image`; turns `RetrainError` into one line and an exit code."""

import json
import logging
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from retrain import flags
from retrain.config import ORIGINAL_PATHS, RetrainConfig
from retrain.errors import RetrainError, UsageError, printable
from retrain.sweep import NAMED

if TYPE_CHECKING:
    from retrain.classifier import Metadata
    from retrain.label import Labelled

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def retrain_command() -> NoReturn:
    """Run `retrain` on the process's arguments and exit with its code."""
    run("retrain", retrain_main)


def original_retrain_command() -> NoReturn:
    """Run `retrain` with the original's own places for results, under /tmp."""
    run("retrain", lambda arguments: retrain_main(arguments, ORIGINAL_PATHS))


def label_image_command() -> NoReturn:
    """Run `label_image` on the process's arguments and exit with its code."""
    run("label_image", label_image_main)


@dataclass(frozen=True)
class ParsedRetrain:
    """What the words of `retrain` say: its settings, values to try of some of them, and what to print."""

    config: RetrainConfig
    choices: Mapping[str, Sequence[Any]]
    level: str
    listing: bool


def parsed_retrain(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> ParsedRetrain:
    """Return what the words of `retrain` say.

    Args:
        arguments: The command's words.
        paths: Defaults of paths other than those of `RetrainConfig`.

    Raises:
        UsageError: They make no sense.
    """
    given = vars(flags.parse(flags.retrain_parser(paths), arguments))
    level, verbose, listing = (given.pop(name) for name in ("logging_verbosity", "verbose", "list_layers"))
    if given["image_dir"] is None and not listing:
        raise UsageError("--image_dir is missing. Give it a folder that holds one sub-folder of photos per class.")
    given["hidden_units"] = flags.hidden_units(given["hidden_units"])
    several = {name: given[name] for name in NAMED if len(given[name]) > 1}
    config = RetrainConfig(**{**given, **{name: given[name][0] for name in NAMED}})
    return ParsedRetrain(config, several, "DEBUG" if verbose else level, listing)


def retrain_main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Train as the flags say and return the exit code.

    Args:
        arguments: The command's words.
        paths: Defaults of paths other than those of `RetrainConfig`.

    Raises:
        RetrainError: Something that the user can mend.
    """
    parsed = parsed_retrain(arguments, paths)
    quieten(verbose=parsed.level == "DEBUG")
    # Behind the flags: --help and a mistyped flag need not wait for numpy.
    from retrain.pipeline import layers, retrain
    from retrain.report import Terminal

    if parsed.listing:
        print("\n".join(layers(parsed.config)))
        return DONE
    terminal = Terminal(level=logging.getLevelName(parsed.level))
    retrain(parsed.config, terminal, choices=parsed.choices)
    terminal.say(f"Label a photo:  label_image --graph {parsed.config.output_graph} PHOTO.jpg")
    terminal.say(f"See the curves: tensorboard --logdir {parsed.config.summaries_dir}")
    return DONE


def label_image_main(arguments: Sequence[str]) -> int:
    """Print the best classes of each image and return the exit code, 1 if an image could not be read.

    Raises:
        RetrainError: Something that the user can mend.
    """
    given = flags.parse(flags.label_image_parser(), arguments)
    quieten(verbose=given.verbose)
    if given.describe:
        from retrain import inspection

        for line in inspection.lines(given.graph, labels=given.labels, own=own_metadata(given)):
            print(printable(line))
        return DONE
    paths = ([given.image] if given.image else []) + given.images
    if not paths:
        raise UsageError("no image given. Name one or more image files or folders.")
    from retrain import label

    files = label.images(paths)
    if not files:
        raise UsageError(f"no image files in {', '.join(str(path) for path in paths)}.")
    model = label.load(given.graph, labels=given.labels, own=own_metadata(given))
    if given.verbose:
        print(f"label_image: {printable(str(given.graph))}: {model.metadata.summary()}", file=sys.stderr)
    single = len(files) == 1 and not paths[0].is_dir()
    code, started = DONE, time.perf_counter()
    for result in label.label(model, files):
        if given.json:
            ranked = [{"label": r.label, "score": round(r.score, 6)} for r in result.ranked]
            outcome = {"error": result.error} if result.error else {"labels": ranked}
            print(json.dumps({"image": str(result.path), **outcome}), flush=True)
        elif not result.error:
            _print_ranked(result, seconds=time.perf_counter() - started if single else None)
        if result.error:
            code = FAILED
            print(f"label_image: {printable(str(result.path))}: {result.error}", file=sys.stderr)
        started = time.perf_counter()
    return code


def _print_ranked(result: "Labelled", *, seconds: float | None) -> None:
    """Print the classes of an image as the codelab does, or, of several images, under its path."""
    if seconds is None:
        print(printable(str(result.path)))
    else:
        print(f"\nEvaluation time (1-image): {seconds:.3f}s\n")
    for ranked in result.ranked:
        print(f"{printable(ranked.label)} (score={ranked.score:.5f})")
    print("", end="\n" if seconds is None else "", flush=True)


def own_metadata(given: Namespace) -> "Metadata":
    """Return what the user said of a graph by `flags.add_graph_flags`."""
    from retrain.classifier import Metadata

    return Metadata(
        input=given.input_layer,
        output=given.output_layer,
        height=given.input_height,
        width=given.input_width,
        mean=given.input_mean,
        std=given.input_std,
    )


def quieten(*, verbose: bool) -> None:
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


def run(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command on the process's arguments and exit with its code; this is where its errors become one line."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding lacks must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = main(sys.argv[1:])
    except UsageError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        code = BAD_USAGE
    except RetrainError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        print(
            f"\n{name}: interrupted. What was finished is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
