"""Judges a model file by its content, once: what it does is tried in a process that may be killed."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retrain.errors import GraphError
from retrain.files import sha256_of_all, size_of
from retrain.trust import verdicts

TRUST = "RETRAIN_TRUST_MODELS"  # environment variable: 1 where all models are known
LABEL = "label"  # the purpose of labelling images with a model as it says of itself
_ADVICE = f"Use a model from a source that you trust, or set {TRUST}=1 if you trust this one."


@dataclass(frozen=True)
class Trial:
    """What is tried with a model.

    `task` can be pickled; it raises a `RetrainError` where this process would, and returns whether it came to its end:
    then the verdict is remembered. `purpose` names all but the content that the task depends on; a model that may be
    labelled with may be read, too, for any purpose that is a `part` of it. `runtimes` are imported before time counts.
    """

    task: Callable[[], bool]
    purpose: str
    runtimes: tuple[str, ...] = ("tensorflow",)
    part: bool = False


def judge(path: Path, trial: Trial, *, content: str | None = None) -> None:
    """Refuse a model that takes too long or too much memory, or crashes its runtime, when it is tried.

    One whose content was judged before, or was written and run by this program, is not tried again.

    Args:
        path: A file or folder.
        trial: What is tried.
        content: Its hash as from `files.sha256_of_all`, where it is known.

    Raises:
        RetrainError: It is refused, or fails as it would fail in this process.
    """
    no_model = path.is_dir() and not (path / "saved_model.pb").is_file()  # but a folder of anything, of any size
    if os.environ.get(TRUST) == "1" or no_model:
        return
    try:
        content, size = content or sha256_of_all(path), size_of(path)
    except OSError:  # whoever loads it says what is wrong
        return
    purposes = [trial.purpose, LABEL] if trial.part else [trial.purpose]
    known = [reason for purpose in purposes if (reason := verdicts.recall(content, purpose)) is not None]
    reason = known[0] if known else _try(path, trial, content, size)
    if reason:
        raise GraphError(f"{path} is refused: it {reason}. {_ADVICE}")


def accept(path: Path) -> None:
    """Remember a model that this program has written and run as one that need not be tried."""
    if os.environ.get(TRUST) != "1":
        with suppress(OSError):
            verdicts.remember(sha256_of_all(path), LABEL)


def _try(path: Path, trial: Trial, content: str, size: int) -> str:
    """Return why a model is refused, "" where it is not."""
    from retrain.trust import process  # which imports what only a trial needs

    try:
        outcome = process.run(trial.task, trial.runtimes, size=size)
    except OSError as error:
        raise GraphError(f"{path} cannot be tried in a process of its own ({error}). {_ADVICE}") from error
    if outcome.error:
        raise outcome.error
    if outcome.complete:
        verdicts.remember(content, trial.purpose, outcome.reason)
    return outcome.reason
