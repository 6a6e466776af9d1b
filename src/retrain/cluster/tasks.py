"""What goes to a cluster, and what comes back."""

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
    """A task on its way.

    `attempt` is the one that it is at, `copies` how many workers have it, `queued` whether it waits for one, and
    `failed_on` the ids of nodes that failed at it. A `suspect` one was at a worker that died, and gets one for itself,
    so that the next death has one cause only.
    """

    task: Task
    attempt: int = 1
    copies: int = 0
    queued: bool = False
    suspect: bool = False
    failed_on: set[str] = field(default_factory=set)
