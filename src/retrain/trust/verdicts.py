"""Remembers, for each content of a model file, whether it may be run; where nothing can be kept, nothing is remembered.

A verdict is a small file in the user's cache folder, named for all that it depends on. An empty one is good; any other
holds the reason why the model is refused.
"""

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from retrain import __version__
from retrain.files import write_atomically

_KEPT = 4000  # verdicts; the oldest go first
_LONGEST = 1000  # bytes of a reason
_RUNTIMES = tuple(f"{name}-" for name in ("tensorflow", "keras", "h5py", "ai_edge_litert", "onnxruntime"))


def recall(content: str, purpose: str) -> str | None:
    """Return why a model of this content is refused for a purpose, "" where it is not; None for one not judged yet."""
    folder = _folder()
    if folder is None:
        return None
    try:
        with open(folder / _name(content, purpose), "rb") as file:
            return file.read(_LONGEST).decode()
    except (OSError, ValueError):
        return None


def remember(content: str, purpose: str, reason: str = "") -> None:
    """Remember a verdict on a content, given as `files.sha256_of_all` does, if anything can be kept here."""
    folder = _folder()
    if folder is None:
        return
    with suppress(OSError):  # a disk that is full, or may only be read
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / _name(content, purpose), reason.encode()[:_LONGEST])
        files = list(folder.iterdir())
        if len(files) > _KEPT:
            for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)[: -_KEPT // 2]:
                file.unlink(missing_ok=True)


def _folder() -> Path | None:
    """Return the folder of the verdicts, which need not exist; None where the user has no cache folder."""
    root = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    if not Path(root).is_absolute():
        try:
            root = str(Path.home() / ".cache")
        except RuntimeError:  # a user without a home
            return None
    return Path(root) / "retrain" / "judged"


def _name(content: str, purpose: str) -> str:
    parts = [content, purpose, __version__, sys.version.split()[0], *_runtimes()]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _runtimes() -> list[str]:
    """Return the installed runtimes with their versions: "keras-3.15.1.dist-info".

    The names of folders say it; `importlib.metadata` takes longer to import than a small model to load.
    """
    found = set()
    for folder in sys.path:
        with suppress(OSError), os.scandir(folder or ".") as entries:
            found |= {e.name for e in entries if e.name.startswith(_RUNTIMES) and e.name.endswith(".dist-info")}
    return sorted(found)
