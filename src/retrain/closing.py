"""What a run says at its end: its result, what it wrote, and commands to type next that work as they stand."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.errors import shell_quoted

Words = Sequence[str]  # of a command, each quoted for the shell


@dataclass(frozen=True)
class Closing:
    """The end of a run: `result` is its accuracy in a sentence, `details` are lines that follow it.

    `written` are its files but for its report, the `page`. `graph` and `summaries_dir` are what the commands are
    about, and `runs` is the sub-command of `retrain` that lists this run.
    """

    result: str
    details: Sequence[str]
    written: Sequence[Path]
    page: Path
    graph: Path
    summaries_dir: Path
    runs: Words = ("runs",)

    def lines(self, *, by_make: bool) -> list[str]:
        """Return the closing lines, which scripts parse; `by_make` if people typed a target of the Makefile."""
        label, curves = self._commands(["label_image"], ["tensorboard"], by_make=by_make)
        return [
            self.result,
            *self.details,
            f"Wrote {', '.join(map(str, self.written))} and {self.page}.",
            f"Label a photo:  {' '.join(label)}",
            f"See the curves: {' '.join(curves)}",
        ]

    def rows(self, *, by_make: bool) -> Mapping[str, Sequence[Words]]:
        """Return what follows the result on a terminal: items by their headings, each as its words."""
        # `retrain tensorboard` starts in a second, without TensorFlow and its messages.
        label, curves = self._commands(
            [installed("label_image")], [installed("retrain"), "tensorboard"], by_make=by_make
        )
        return {
            "Wrote": [[str(path)] for path in (*self.written, self.page)],
            "Label a photo": [label],
            "See the curves": [curves],
            "Compare runs": [[*map(shell_quoted, [installed("retrain"), *self.runs])]],
        }

    def _commands(self, label: Words, curves: Words, *, by_make: bool) -> tuple[Words, Words]:
        """Return the commands that label a photo and show the curves, from the names of their programs."""
        if by_make:
            return ["make", "label", "IMAGE=PHOTO.jpg"], ["make", "tensorboard"]
        return (
            [*map(shell_quoted, [*label, "--graph", str(self.graph), "PHOTO.jpg"])],
            [*map(shell_quoted, [*curves, "--logdir", str(self.summaries_dir)])],
        )


def installed(name: str) -> str:
    """Return how to call a command of this package: by its path where its name alone would not find it."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if beside is None or shutil.which(name):
        return name
    return os.path.relpath(beside) if Path(beside).is_relative_to(Path.cwd()) else beside
