"""Runs a command: errors become one line and an exit code, and libraries are silent unless the process crashes."""

import atexit
import errno
import logging
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TextIO

from retrain.errors import RetrainError, UsageError, printable

DONE, FAILED, BAD_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
_STOPPING = "Ctrl-C: fine-tuning ends here and exports its best. A second one ends at once."
_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_KEPT_BYTES, _KEPT_LINES = 65536, 40  # of what libraries write; a pipe holds no more bytes at once


class _TerminationError(BaseException):
    """Raised wherever the process is when SIGTERM arrives, as KeyboardInterrupt is for SIGINT."""


def run(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command on the process's arguments and exit with its code; this is where its errors become one line."""
    _open_standard_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a caller may have it ignored
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main(sys.argv[1:])
    except RetrainError as error:
        _print_error(name, str(error))
        code = BAD_USAGE if isinstance(error, UsageError) else FAILED
    except MemoryError:
        _print_error(name, "there is not enough memory. Give smaller batches, or fewer steps.")
        code = FAILED
    except (KeyboardInterrupt, _TerminationError) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        word, code = ("interrupted", INTERRUPTED) if interrupted else ("terminated", TERMINATED)
        print(file=sys.stderr)
        _print_error(name, f"{word}. Finished work is kept; run the same command again to resume.")
        _exit_now(code)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except OSError as error:  # of files, they are one line where they are written; what is printed goes anywhere
        if error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _print_error(name, f"cannot write: {error.strerror}. Free some space, and run again.")
        code = FAILED
    if signal.getsignal(signal.SIGTERM) is _terminate:  # nothing is left to tidy, nor to catch what would be raised
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(code)


def _exit_now(code: int) -> NoReturn:
    """Exit without taking Python down: threads of libraries that were interrupted at their work may crash it then."""
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # a closed pipe
        sys.stdout.flush()
    os._exit(code)


@contextmanager
def heed_first_interrupt(asked: threading.Event) -> Iterator[None]:
    """Set `asked` at a first Ctrl-C, and say so; a second one, or one after this context, interrupts the process.

    Who started it may have it ignore Ctrl-C, as a shell does in the background: that stays.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        # Past all buffers, in the midst of whose writing a signal may come; below a live line, which is not ended.
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"{chr(10) if sys.stderr.isatty() else ''}{_STOPPING}\n".encode())

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def quieten(*, verbose: bool = False) -> None:
    """Silence TensorFlow and its libraries unless `verbose`; a program calls it first, before they are imported.

    What they write to descriptor 2 is shown only if the process crashes; Python's own standard error stays.
    """
    if verbose:
        return
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if hasattr(os, "fork"):
        _hold_back_native_messages()


def _print_error(name: str, text: str) -> None:
    from retrain.terminal import Terminal  # late: --help needs none

    Terminal().error(name, text)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End the process tidily; a second signal ends it at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _TerminationError


def _open_standard_streams() -> None:
    """Open to nowhere what the caller closed (`2>&-`), and let no file name end the run that an encoding lacks."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _hold_back_native_messages() -> None:
    """Lead descriptor 2 to a process that shows what was written there only if this process crashes.

    C++ code writes to the descriptor whatever TF_CPP_MIN_LOG_LEVEL says; Python keeps the real one for itself. After
    an abort nothing runs in a process, so that another one has to print its last messages.
    """
    sys.stderr.flush()
    real = os.dup(2)
    messages, written = os.pipe()
    # No command inherits `alive` and nothing is written to it: `ended` is readable once this process is gone.
    ended, alive = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        os.close(alive)
        _watch(messages, ended, real)
    os.dup2(written, 2)
    for descriptor in (messages, written, ended):
        os.close(descriptor)
    if _writes_to_descriptor_2(sys.stderr):  # a notebook's does not
        sys.stderr = os.fdopen(real, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    atexit.register(_dismiss, watcher)


def _writes_to_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except OSError:
        return False


def _watch(messages: int, ended: int, real: int) -> NoReturn:
    """Read `messages` until `ended` is readable, print the last of them to `real`, and exit."""
    try:
        os.setsid()  # Ctrl-C, and `kill` on the command's process group, are not meant for this process
        os.set_blocking(messages, False)
        kept, ready = b"", [messages]
        while ended not in ready:
            ready = select.select([messages, ended], [], [])[0]
            with suppress(BlockingIOError):
                kept = (kept + os.read(messages, _KEPT_BYTES))[-_KEPT_BYTES:]
        lines = kept.decode("utf-8", "backslashreplace").splitlines()[-_KEPT_LINES:]
        if lines:
            text = "\n".join(["The process ended unexpectedly. Its last messages:", *map(printable, lines), ""])
            os.write(real, text.encode())
    finally:
        os._exit(0)


def _dismiss(watcher: int) -> None:
    """End the watcher of a process that ends as it should."""
    with suppress(OSError):
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
