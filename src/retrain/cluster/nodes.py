"""Which nodes a cluster has, and how many workers fit on each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CORES = 4  # of a worker, the most: a network of this size hardly gains from more, and a task that dies costs less


@dataclass(frozen=True, slots=True)
class Place:
    """Room for one worker: the node's id, None for any node, and the cores that it gets."""

    node: str | None
    cores: int


def groups(cores: int) -> list[int]:
    """Return the cores of each worker of a node that has so many: as few workers as possible, and as equal."""
    count = -(-cores // CORES)
    return [cores // count + (number < cores % count) for number in range(count)]


def names(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return a name for people for each node of `ray.nodes()`: its host, and part of its id where others share that."""
    rows = list(rows)
    hosts = [row["NodeManagerHostname"] for row in rows]
    return {
        row["NodeID"]: host if hosts.count(host) == 1 else f"{host}-{row['NodeID'][:6]}"
        for row, host in zip(rows, hosts, strict=True)
    }


def places(rows: Iterable[Mapping[str, Any]], taken: Mapping[str, int]) -> list[Place]:
    """Return room for workers, a first one on each node before a second one on any.

    Args:
        rows: The nodes as of `ray.nodes()`.
        taken: The cores of each node that workers have already.
    """
    ranked = [
        (number, Place(row["NodeID"], cores))
        for row in rows
        if row["Alive"]
        for number, cores in enumerate(groups(int(row["Resources"].get("CPU", 0)) - taken.get(row["NodeID"], 0)))
    ]
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])]
