"""What goes to a cluster, and what comes back."""

import time
from dataclasses import dataclass, field
from typing import Any

ATTEMPTS = 3  # of a task, until it is given up


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work: a name for people, and a small value that can be pickled."""

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: its result, or in one line why there is none, and which node and attempt that was."""

    task: Task
    result: Any | None
    failure: str | None
    node: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What an actor answers: a result, or why there is none, and whether another attempt would end likewise."""

    result: Any = None
    failure: str | None = None
    final: bool = False


@dataclass(eq=False, slots=True)
class Job:
    """A task on its way: the attempt that it is at, the copies that actors hold, and the nodes that failed at it."""

    task: Task
    attempt: int = 1
    copies: int = 0
    done: bool = False
    failed_on: set[str] = field(default_factory=set)
    sent: float = field(default_factory=time.monotonic)
