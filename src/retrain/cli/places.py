"""What flags that name files and folders take: photos and bottlenecks may be remote, and results are local."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path

from retrain.errors import UsageError, shell_quoted
from retrain.storage.folders import Folder, folder, is_url


def local(word: str) -> Path:
    """Return the path in a flag's value."""
    if is_url(word):
        raise ArgumentTypeError("a URL; photos and bottlenecks may be at one, and results stay local. Give a path")
    return Path(word)


PLACES: tuple[Callable[[str], Folder], ...] = (Path, local, folder)  # the shell completes what is on its disk


def image_dir(words: Sequence[str], flag: Folder | None, command: str) -> Folder | None:
    """Return the folder of photos, which is named by itself or by `--image_dir`, None where it is not named.

    Raises:
        UsageError: More than one is named; the words of a name with a space in it, say.
    """
    named = list(dict.fromkeys(map(str, [*([flag] if flag is not None else []), *map(folder, words)])))
    if len(named) < 2:
        return folder(named[0]) if named else None
    joined = " ".join(named)
    if Path(joined).exists():
        option = "--image_dir " if flag is not None else ""
        raise UsageError(f"the folder {joined!r} has a space in its name. Quote it: {option}{shell_quoted(joined)}")
    folders = all(Path(name).is_dir() for name in named)
    advice = "Put the class folders into one folder and give that" if folders else f"`{command} --help` lists all flags"
    raise UsageError(f"one folder of photos is read, and {' and '.join(map(repr, named))} were given. {advice}.")
