"""What flags that name files and folders take: photos and bottlenecks may be remote, and results are local."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from retrain.storage.folders import Folder, folder, is_url


def local(word: str) -> Path:
    """Return the path in a flag's value."""
    if is_url(word):
        raise ArgumentTypeError("a URL; photos and bottlenecks may be at one, and results stay local. Give a path")
    return Path(word)


PLACES: tuple[Callable[[str], Folder], ...] = (Path, local, folder)  # the shell completes what is on its disk
