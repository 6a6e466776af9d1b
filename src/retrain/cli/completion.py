"""`retrain completion`: prints a script that completes the flags of the commands, and their values, in a shell."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from retrain.backbones import catalogue, devices, engines
from retrain.cli import check_images, flags
from retrain.cli.console import DONE
from retrain.cli.places import PLACES
from retrain.formats.table import EXPORTS
from retrain.preprocessing import ASPECT_MODES
from retrain.training import recipe

SHELLS = ("bash", "zsh", "fish", "powershell")
_VALUES = {
    "architecture": catalogue.names(),
    "distribution": devices.DISTRIBUTIONS,
    "engine": engines.ENGINES,
    "precision": engines.PRECISIONS,
    "keep_aspect_ratio": ASPECT_MODES,
    "export": list(EXPORTS),
    "optimizer": recipe.OPTIMIZERS,
    "learning_rate_schedule": recipe.SCHEDULES,
    "logging_verbosity": flags.LEVELS,
}


def main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Print the script for a shell, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="retrain completion", description="Prints a script that completes the commands in a shell."
    )
    parser.add_argument("shell", choices=SHELLS)
    shell = flags.parse(parser, arguments).shell
    # Written once at the start of a shell: the commands themselves know nothing of it, and start no slower.
    import shtab

    parsers = flags.retrain_parser(paths), flags.label_image_parser(), flags.evaluate_parser()
    for command in (*parsers, check_images.check_images_parser()):
        _describe_values(command)
        print(shtab.complete(command, shell=shell))
    return DONE


def _describe_values(parser: argparse.ArgumentParser) -> None:
    """Add to a parser, which parses nothing after that, which values the flags take: files, folders or words."""
    import shtab

    for action in parser._actions:
        if action.dest in _VALUES:
            action.choices = _VALUES[action.dest]
        elif action.type in PLACES or action.dest in ("folder", "images", "image", "weights"):
            kind = shtab.DIRECTORY if action.dest.endswith(("_dir", "folder")) else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]
