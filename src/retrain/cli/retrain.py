"""The commands as they are installed, and what `retrain` does."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from retrain.cli import evaluate as cli_evaluate
from retrain.cli import flags
from retrain.cli import label_image as cli_label_image
from retrain.cli.console import DONE, quieten, run
from retrain.config import ORIGINAL_PATHS, RetrainConfig
from retrain.errors import UsageError
from retrain.sweep import SWEEPABLE


def retrain_command() -> NoReturn:
    """Run `retrain` on the process's arguments and exit with its code."""
    run("retrain", retrain_main)


def original_retrain_command() -> NoReturn:
    """Run `retrain` with the original's own places for results, under /tmp."""
    run("retrain", lambda arguments: retrain_main(arguments, ORIGINAL_PATHS))


def label_image_command() -> NoReturn:
    """Run `label_image` on the process's arguments and exit with its code."""
    run("label_image", cli_label_image.main)


def evaluate_command() -> NoReturn:
    """Run `evaluate` on the process's arguments and exit with its code."""
    run("evaluate", cli_evaluate.main)


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
    several = {name: given[name] for name in SWEEPABLE if len(given[name]) > 1}
    config = RetrainConfig(**{**given, **{name: given[name][0] for name in SWEEPABLE}})
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
    from retrain.terminal import Terminal

    if parsed.listing:
        print("\n".join(layers(parsed.config)))
        return DONE
    terminal = Terminal(level=logging.getLevelName(parsed.level))
    retrain(parsed.config, terminal, choices=parsed.choices)
    return DONE
