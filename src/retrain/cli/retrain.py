"""`retrain`: trains an image classifier as its flags say."""

import importlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from retrain.cli import flags, places
from retrain.cli.console import DONE, heed_first_interrupt, quieten, run
from retrain.config import ORIGINAL_PATHS, RetrainConfig
from retrain.errors import UsageError, did_you_mean
from retrain.sweep import SWEEPABLE

_BEGAN = time.monotonic()  # of the command, before it imports what takes time


@dataclass(frozen=True)
class ParsedRetrain:
    """The arguments of `retrain`: its settings, several values of some of them to try, and what to print.

    `check` asks for a look at the photos instead of a training; `marks` is `apply_marks` or `undo_marks` with its file,
    which is done instead, too.
    """

    config: RetrainConfig
    choices: Mapping[str, Sequence[Any]]
    level: str
    list_layers: bool
    check: bool
    marks: tuple[str, Path] | None


def main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Train as the flags say and return the exit code; `paths` are defaults instead of those of `RetrainConfig`.

    A sub-command goes before a folder of its name: `retrain ./runs` trains on the folder.
    """
    if arguments and arguments[0] in flags.SUBCOMMANDS:
        module, _, function = flags.SUBCOMMANDS[arguments[0]].partition(":")
        return int(getattr(importlib.import_module(f"retrain.cli.{module}"), function)(arguments[1:], paths))
    parsed = parse(arguments, paths)
    if parsed.marks:
        from retrain.cli import marks

        act, file = parsed.marks
        return (marks.apply if act == "apply_marks" else marks.undo)(parsed.config, file)
    quieten(verbose=parsed.level == "DEBUG")
    # Imported late: --help and a mistyped flag need not wait for numpy.
    from retrain.pipeline import layers, retrain
    from retrain.terminal import Terminal

    if parsed.list_layers:
        print("\n".join(layers(parsed.config)))
        return DONE
    if parsed.check:
        return _check(parsed)
    # The Makefile says so, whose targets are then what to type next.
    by_make = os.environ.get("RETRAIN_CALLED_BY") == "make"
    with Terminal(level=logging.getLevelName(parsed.level), by_make=by_make) as terminal:
        words, heed = ("retrain", *arguments), heed_first_interrupt
        retrain(parsed.config, terminal, choices=parsed.choices, command=words, heed=heed, began=_BEGAN)
    return DONE


command = partial(run, "retrain", main)
original_command = partial(run, "retrain", partial(main, paths=ORIGINAL_PATHS))


def _check(parsed: ParsedRetrain) -> int:
    """Print what is wrong with the photos and return the exit code.

    Raises:
        UsageError: Several networks are named.
    """
    from retrain.cli import check_images

    if "architecture" in parsed.choices:
        raise UsageError("--check looks at photos with one network, and --architecture has several. Give one.")
    page = parsed.config.output_graph.with_name(check_images.PAGE)
    check_images.look(parsed.config, page, "--output_graph", logging.getLevelName(parsed.level))
    return DONE


def parse(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> ParsedRetrain:
    """Return the parsed arguments of `retrain`; `paths` are defaults instead of those of `RetrainConfig`.

    Raises:
        UsageError: An argument is unknown, missing or malformed.
    """
    args = vars(flags.parse(flags.retrain_parser(paths), arguments))
    level, verbose = (args.pop(name) for name in ("logging_verbosity", "verbose"))
    list_layers, check = (args.pop(name) for name in ("list_layers", "check"))
    marks = [(name, file) for name in ("apply_marks", "undo_marks") if (file := args.pop(name))]
    args["hidden_units"] = flags.hidden_units(args["hidden_units"])
    words = args.pop("folder")
    if len(words) == 1 and not Path(words[0]).exists() and (hint := did_you_mean(words[0], flags.SUBCOMMANDS)):
        raise UsageError(f"{words[0]!r} is neither a folder nor a sub-command.{hint}")
    args["image_dir"] = places.image_dir(words, args["image_dir"], "retrain")
    if args["image_dir"] is None and not list_layers:
        raise UsageError(
            "--image_dir is missing. Give it a folder that holds one sub-folder of photos per class: retrain my_photos"
        )
    choices = {name: args[name] for name in SWEEPABLE if len(args[name]) > 1}
    config = RetrainConfig(**{**args, **{name: args[name][0] for name in SWEEPABLE}})
    level = "DEBUG" if verbose else level
    return ParsedRetrain(config, choices, level, list_layers, check, marks[0] if marks else None)
