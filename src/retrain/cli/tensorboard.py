"""`retrain tensorboard`: shows the curves, in a second and without the messages of TensorFlow."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from retrain.cli.console import DONE, FAILED
from retrain.config import RetrainConfig
from retrain.errors import UsageError, first_line


def main(arguments: Sequence[str], paths: Mapping[str, Path] | None = None) -> int:
    """Serve TensorBoard with these arguments until it is interrupted and return the exit code; `paths` are defaults."""
    # With this module there, TensorBoard uses its own file access in place of TensorFlow's, which takes seconds to
    # import and tells what it found of CUDA.
    sys.modules["tensorboard.compat.notf"] = ModuleType("tensorboard.compat.notf")
    from tensorboard import default, program
    from tensorboard.plugins.base_plugin import FlagsError

    board = program.TensorBoard(plugins=default.get_plugins())
    folder = (
        []
        if _names_a_folder(arguments)
        else ["--logdir", str((paths or {}).get("summaries_dir", RetrainConfig.summaries_dir))]
    )
    try:
        board.configure(argv=("retrain tensorboard", *folder, *arguments))
        return FAILED if board.main() else DONE
    except FlagsError as error:
        raise UsageError(f"{first_line(error)}.") from error
    except KeyboardInterrupt:  # how people end it
        return DONE


def _names_a_folder(arguments: Sequence[str]) -> bool:
    return any(word.startswith("--logdir") for word in arguments)
