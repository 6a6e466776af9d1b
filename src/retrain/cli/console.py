"""Runs a command: its errors become one line and an exit code, and its libraries keep quiet."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from retrain.errors import RetrainError, UsageError, printable

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def quieten(*, verbose: bool) -> None:
    """Keep TensorFlow and its libraries from talking; must come before TensorFlow is imported."""
    if verbose:
        return
    logging.disable(logging.WARNING)
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
            f"\n{name}: interrupted. What was finished is kept; the same command can be given again.",
            file=sys.stderr,
        )
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
