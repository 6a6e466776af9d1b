"""The workers of a SLURM step: where each of them listens, and which of them this process is.

Not TensorFlow's SlurmClusterResolver: it sorts the machines by their names as text (n10 before n9), while the numbers
of SLURM's tasks follow its list, and it needs nvidia-smi.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from retrain.errors import UsageError

_PORTS = range(20_000, 32_000)  # below those that Linux gives to connections
_PART = re.compile(r"((?:[^,\[\]]|\[[\d,-]+\])+)(?:,|$)")  # of a list of machines: n1, or n[1-2,4], or r[1-2]n[1-8]
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True, slots=True)
class Step:
    """The addresses ("machine:port") of a step's workers in the order of their numbers, and this process's number."""

    addresses: tuple[str, ...]
    rank: int


def step(environment: Mapping[str, str]) -> Step | None:
    """Return the SLURM step that this process is a task of, None outside a step of several tasks.

    The ports follow from the numbers of the job and of the step, so that all tasks know them without asking.

    Args:
        environment: The environment variables that srun sets.

    Raises:
        UsageError: The variables contradict each other, or the step's tasks do not follow its machines in blocks.
    """
    if environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return None
    try:
        machines = list(_machines(environment["SLURM_STEP_NODELIST"]))
        tasks = list(_tasks(environment["SLURM_STEP_TASKS_PER_NODE"]))
        job, number, rank, machine, count = (
            int(environment[f"SLURM_{name}"]) for name in ("JOB_ID", "STEP_ID", "PROCID", "NODEID", "STEP_NUM_TASKS")
        )
        first = 131 * job + 17 * number
        placed = [
            (index, f"{name}:{_PORTS[(first + local) % len(_PORTS)]}")
            for index, (name, here) in enumerate(zip(machines, tasks, strict=True))
            for local in range(here)
        ]
    except (KeyError, ValueError) as error:
        raise UsageError(f"SLURM's variables of this step cannot be read: {error}. Set TF_CONFIG instead.") from error
    if len(placed) != count or not 0 <= rank < count or placed[rank][0] != machine:
        raise UsageError(
            "This SLURM step's tasks do not follow its machines in blocks. Start it with srun --distribution=block."
        )
    return Step(tuple(address for _, address in placed), rank)


def _machines(text: str) -> Iterator[str]:
    """Yield the names in a list of machines as SLURM writes it, ranges in brackets counted out."""
    if "".join(part.group() for part in _PART.finditer(text)) != text or text.endswith(","):
        raise ValueError(f"SLURM_STEP_NODELIST={text}")
    for part in _PART.finditer(text):
        pieces = re.split(r"\[([\d,-]+)\]", part[1])  # every second one was in brackets
        choices = [list(_numbers(piece)) if place % 2 else [piece] for place, piece in enumerate(pieces)]
        yield from map("".join, itertools.product(*choices))


def _numbers(ranges: str) -> Iterator[str]:
    for one in ranges.split(","):
        first, _, last = one.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))


def _tasks(text: str) -> Iterator[int]:
    """Yield the number of tasks on each machine: "2(x3),1" are 2, 2, 2 and 1."""
    for part in text.split(","):
        match = _TASKS.fullmatch(part)
        if match is None:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE={text}")
        yield from itertools.repeat(int(match[1]), int(match[2] or 1))
