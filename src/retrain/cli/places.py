"""What flags that name files and folders take: photos may be remote, and everything else is on this machine."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from retrain.storage.folders import Folder, folder, is_url


def local(word: str) -> Path:
    """Return the path in a flag's value."""
    if is_url(word):
        raise ArgumentTypeError("a URL; photos alone are read from one, and results stay local. Give a path")
    return Path(word)


def cache(word: str) -> Path:
    """Return the folder in the value of `--bottleneck_dir`."""
    if is_url(word):
        raise ArgumentTypeError("a URL; one machine alone keeps its cache on its own disk. Give a path")
    return Path(word)


PLACES: tuple[Callable[[str], Folder], ...] = (Path, local, cache, folder)  # the shell completes what is on its disk
