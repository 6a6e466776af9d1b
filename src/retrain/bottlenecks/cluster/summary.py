"""What a computation on a cluster took, in one line; and on long ones, now and then, how fast each node is."""

import time
from collections import Counter

from retrain.bottlenecks.cluster.parts import STAGES, Commit
from retrain.errors import plural

_NODES_NAMED = 8
_SECONDS = 60.0  # from one line about the nodes to the next


class Summary:
    """Adds up what commits say."""

    def __init__(self) -> None:
        self._photos: Counter[str] = Counter()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._started = self._told = time.monotonic()

    @property
    def photos(self) -> int:
        """Return how many photos were computed."""
        return self._photos.total()

    def add(self, commit: Commit, node: str, *, photos: int) -> None:
        """Add the commit of a worker on a node."""
        self._photos[node] += photos
        for stage, seconds in commit.seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def news(self) -> str:
        """Return photos a second of each node so far; "" but once a minute."""
        now = time.monotonic()
        if now - self._told < _SECONDS:
            return ""
        self._told = now
        return f"Photos a second on {plural(len(self._photos), 'node')}: {self._rates(now - self._started)}."

    def text(self, took: float, listing: float) -> str:
        """Return photos a second, of each node too, and the time of each stage.

        `took` are the seconds of all, and `listing` those of the folder's listing.
        """
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self._seconds.items())
        return (
            f"Cluster: {plural(self.photos, 'photo')} in {took:.1f} s on {plural(len(self._photos), 'node')}, "
            f"{self.photos / took:.0f} photos/s ({self._rates(took)}); "
            f"listing {listing:.1f} s, in all threads together {stages}."
        )

    def _rates(self, took: float) -> str:
        rates = [f"{node} {count / took:.0f}" for node, count in self._photos.most_common(_NODES_NAMED)]
        more = len(self._photos) - len(rates)
        return ", ".join(rates) + (f" and {more} more" if more else "")
