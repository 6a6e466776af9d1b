"""`retrain`: trains an image classifier as its flags say."""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from retrain.cli import flags
from retrain.cli.console import DONE, quieten, run
from retrain.config import ORIGINAL_PATHS, RetrainConfig
from retrain.errors import UsageError
from retrain.sweep import SWEEPABLE

SUB_COMMANDS = {"tensorboard": "retrain.cli.tensorboard", "completion": "retrain.cli.completion"}


@dataclass(frozen=True)
class ParsedRetrain:
    """The arguments of `retrain`: its settings, several values of some of them to try, and what to print."""

    config: RetrainConfig
    choices: Mapping[str, Sequence[Any]]
    level: str
    list_layers: bool


def main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Train as the flags say and return the exit code; `paths` are defaults instead of those of `RetrainConfig`.

    A first argument that is one of `SUB_COMMANDS` runs that instead.
    """
    if arguments and arguments[0] in SUB_COMMANDS:
        module = importlib.import_module(SUB_COMMANDS[arguments[0]])
        return int(module.main(arguments[1:]))
    parsed = parse(arguments, paths)
    quieten(verbose=parsed.level == "DEBUG")
    # Imported late: --help and a mistyped flag need not wait for numpy.
    from retrain.pipeline import layers, retrain
    from retrain.terminal import Terminal

    if parsed.list_layers:
        print("\n".join(layers(parsed.config)))
        return DONE
    # The Makefile says so, whose targets are then what to type next.
    by_make = os.environ.get("RETRAIN_CALLED_BY") == "make"
    with Terminal(level=logging.getLevelName(parsed.level), by_make=by_make) as terminal:
        retrain(parsed.config, terminal, choices=parsed.choices)
    return DONE


command = partial(run, "retrain", main)
original_command = partial(run, "retrain", partial(main, paths=ORIGINAL_PATHS))


def parse(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> ParsedRetrain:
    """Return the parsed arguments of `retrain`; `paths` are defaults instead of those of `RetrainConfig`.

    Raises:
        UsageError: An argument is unknown, missing or malformed.
    """
    args = vars(flags.parse(flags.retrain_parser(paths), arguments))
    level, verbose, list_layers = (args.pop(name) for name in ("logging_verbosity", "verbose", "list_layers"))
    if args["image_dir"] is None and not list_layers:
        raise UsageError("--image_dir is missing. Give it a folder that holds one sub-folder of photos per class.")
    args["hidden_units"] = flags.hidden_units(args["hidden_units"])
    choices = {name: args[name] for name in SWEEPABLE if len(args[name]) > 1}
    config = RetrainConfig(**{**args, **{name: args[name][0] for name in SWEEPABLE}})
    return ParsedRetrain(config, choices, "DEBUG" if verbose else level, list_layers)
