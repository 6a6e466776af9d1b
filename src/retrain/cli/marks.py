"""`retrain --apply_marks` and `--undo_marks`: moves marked photos, and moves them back."""

import sys
from pathlib import Path

from retrain import closing, files
from retrain.cli.console import DONE
from retrain.config import RetrainConfig
from retrain.data import marks, marks_applying
from retrain.data.layout import quoted
from retrain.data.marks import Action
from retrain.data.marks_applying import Outcome
from retrain.errors import plural, printable, shell_quoted

_WORDS = {Action.RELABEL: "relabelled", Action.REMOVE: "removed", Action.KEEP: "kept"}


def apply(config: RetrainConfig, file: Path) -> int:
    """Carry out the marks in a file on the image folder, say what was done, and return the exit code."""
    files.bound_reading(config.max_file_size)
    outcome = marks_applying.apply(config.image_dir, marks.read(file), config.split_rule)
    print(printable(f"{config.image_dir}: {_counted(outcome, 'done already')}."))
    if outcome.done[Action.REMOVE]:
        print(printable(f"Removed photos are in {_shown(outcome.removed)}."))
    for done in outcome.lists:
        words = [closing.installed("retrain"), str(config.image_dir), "--undo_marks", _shown(done)]
        print(printable(f"Undo with: {' '.join(map(shell_quoted, words))}"))
    _name_left_out(outcome)
    return DONE


def undo(config: RetrainConfig, file: Path) -> int:
    """Move the photos of a list of what was done back, say so, and return the exit code."""
    files.bound_reading(config.max_file_size)
    outcome = marks_applying.undo(config.image_dir, file)
    print(printable(f"{config.image_dir}, undone: {_counted(outcome, 'undone already')}."))
    _name_left_out(outcome)
    return DONE


def _counted(outcome: Outcome, before: str) -> str:
    counts = [f"{outcome.done[action]} {word}" for action, word in _WORDS.items() if outcome.done[action]]
    counts += [f"{outcome.before} {before}"] if outcome.before else []
    return ", ".join(counts) or "nothing"


def _name_left_out(outcome: Outcome) -> None:
    for paths, why in (
        (outcome.gone, "no longer there"),
        (outcome.others, "left alone, as another photo lies there now"),
    ):
        if paths:
            print(printable(f"{plural(len(paths), 'photo')} {why}: {quoted(paths)}."), file=sys.stderr)


def _shown(path: Path) -> str:
    """Return a path as people would type it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
