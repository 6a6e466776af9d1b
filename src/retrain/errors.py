"""The `RetrainError` family: everything that a user can cause and fix."""

from collections.abc import Sequence
from pathlib import Path


class RetrainError(Exception):
    """Something that the user can mend; the message says what is wrong, what was found and what to do."""


class UsageError(RetrainError):
    """A flag's value makes no sense by itself; the command exits with 2, as for an unknown flag."""


class DatasetError(RetrainError):
    """The image folder cannot be trained on as it is."""


class ImageError(RetrainError):
    """One image cannot be decoded; `label_image` and the bottleneck stage go on with the others."""


class BackboneError(RetrainError):
    """The backbone asked for is unknown, incomplete or not what it claims to be."""


class DownloadError(RetrainError):
    """A file could not be fetched; the message names the URL and where to put the file by hand."""


class StoreError(RetrainError):
    """The bottleneck folder cannot be read or written."""


class GraphError(RetrainError):
    """A graph cannot be read, is refused, or does not say what is needed to run it."""


class TrainingError(RetrainError):
    """The training came to nothing; the message says which setting to change."""


class ExportError(RetrainError):
    """A result could not be written, or what was written differs from what was trained."""


def does_not_run(model: Path, shape: Sequence[int], error: BaseException) -> GraphError:
    """Return the error of a model that fails on images [N, height, width, 3] of some shape."""
    _, height, width, *_ = (*shape, 0, 0, 0)
    return GraphError(f"{model} does not run on {width} x {height} px images: {first_line(error)}.")


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, without its full stop, to quote in a message of ours."""
    lines = str(error).strip().splitlines()
    if lines and lines[0] == "in user code:":  # where TensorFlow traced a function: the traceback, and then the reason
        lines = [lines[-1].strip().partition(": ")[2]]
    return lines[0].rstrip(".") if lines else type(error).__name__


def printable(text: str) -> str:
    """Return a text with control characters and undecodable bytes escaped: names come from strangers' disks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
