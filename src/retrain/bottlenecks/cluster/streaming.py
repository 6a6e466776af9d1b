"""What a listing has found so far, cut into the shards that the whole listing will have."""

import queue
import threading
from collections.abc import Iterator, Sequence

from retrain.bottlenecks.cluster import shards


class ListingStream:
    """Chunks of consecutive photos of one class folder, as the listing goes on; its threads call `take` and `end`.

    A chunk is there as soon as it is full, or the listing of its folder has ended.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._chunks: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self.has_begun = False  # whether there is, or was, a chunk

    def take(self, folder: str, paths: Sequence[str]) -> None:
        """Add consecutive sorted paths of a class folder; none at the end of the folder."""
        with self._lock:
            waiting = self._waiting.setdefault(folder, [])
            waiting += paths
            while len(waiting) >= shards.PHOTOS or (waiting and not paths):
                self._chunks.put(waiting[: shards.PHOTOS])
                self.has_begun = True
                del waiting[: shards.PHOTOS]

    def end(self) -> None:
        """Say that the listing has ended, well or not."""
        self._chunks.put(None)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the chunks, and wait for them; for one thread at a time, and once."""
        return iter(self._chunks.get, None)
