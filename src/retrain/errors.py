"""The `RetrainError` family: everything that a user can cause and fix."""

import difflib
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable

_ADDRESS = re.compile(r"\s*<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>|\s+at 0x[0-9a-fA-F]+")  # of Python's objects


class RetrainError(Exception):
    """An error that the user can fix; the message says what is wrong, what was found and what to do."""

    transient = False  # whether the same may go well later or on another machine


class UsageError(RetrainError):
    """A flag's value makes no sense by itself; the command exits with 2, as for an unknown flag."""


class DatasetError(RetrainError):
    """The image folder cannot be trained on as it is."""


class MarksError(RetrainError):
    """Marks on photos cannot be read, or are not carried out on this folder."""


class ImageError(RetrainError):
    """One image cannot be decoded; `label_image` and the bottleneck stage go on with the others."""


class BackboneError(RetrainError):
    """The backbone asked for is unknown, incomplete or not what it claims to be."""


class DownloadError(RetrainError):
    """A file could not be fetched; the message names the URL and where to put the file by hand."""


class StoreError(RetrainError):
    """The bottleneck folder cannot be read or written."""


class StorageError(RetrainError):
    """A remote folder, or a file in it, cannot be listed, read or written."""

    transient = True


class CredentialsError(StorageError):
    """A storage asks for credentials, and there are none, or not the right ones."""

    transient = False


class GraphError(RetrainError):
    """A graph cannot be read, is refused, or does not say what is needed to run it."""


class ClusterError(RetrainError):
    """A cluster cannot be reached or started, or its nodes do not have what this program needs."""


class CheckError(RetrainError):
    """Photos cannot be checked as they are."""


class TrainingError(RetrainError):
    """The training failed; the message says which setting to change."""


class ExportError(RetrainError):
    """A result could not be written, or what was written differs from what was trained."""


def did_you_mean(word: str, names: Iterable[str], *, count: int = 3) -> str:
    """Return " Did you mean a or b?" with the names most similar to a word, "" if none is similar."""
    near = difflib.get_close_matches(word, list(names), n=count)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: "1 file", "3 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without its full stop and addresses in memory."""
    lines = str(error).strip().splitlines()
    if lines and lines[0] == "in user code:":  # where TensorFlow traced a function: the traceback, and then the reason
        lines = [lines[-1].strip().partition(": ")[2]]
    return _ADDRESS.sub("", lines[0]).strip().rstrip(".") if lines else type(error).__name__


def shell_quoted(text: str) -> str:
    """Return a text as one word for the shell of this system, which can be shown as it is.

    What cannot be shown is written as bytes in octal, which bash, zsh and POSIX of 2024 read between `$'` and `'`.
    """
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline([text])
    if not text.isprintable():
        words = (c if c.isprintable() and c not in "'\\" else _octal(c) for c in text)
        return f"$'{''.join(words)}'"
    return shlex.quote(text)


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def printable(text: str) -> str:
    """Return a text with control characters and undecodable bytes escaped, for names from any disk."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def csv_cell(text: str) -> str:
    """Return a text for a cell of CSV: control characters escaped, and no formula of a spreadsheet.

    An apostrophe in front makes text of a formula: https://owasp.org/www-community/attacks/CSV_Injection
    """
    # The spaces of any script are harmless: macOS writes narrow ones into the names of screenshots.
    shown = "".join(c if unicodedata.category(c) == "Zs" else printable(c) for c in text)
    return f"'{shown}" if shown.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) else shown
