"""Computes bottlenecks on a cluster while a remote folder is still being listed.

What comes out is in the store, where the fill that follows the listing finds it. So nothing depends on it: photos that
turn out to be no part of the data set cost time, and those that were missed here are computed then.
"""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial

from retrain.backbones.sources import BackboneSource
from retrain.bottlenecks import computing, preparation
from retrain.bottlenecks.cluster import shards
from retrain.bottlenecks.cluster.computing import ClusterComputing
from retrain.bottlenecks.cluster.streaming import ListingStream
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.preparation import PreparationSettings
from retrain.bottlenecks.store import Store
from retrain.cluster.tasks import Task
from retrain.data.dataset import Dataset, Example, scan
from retrain.data.split import SplitRule
from retrain.data.variants import list_variants
from retrain.storage import access
from retrain.storage.folders import Folder
from retrain.terminal import Terminal


class Listing:
    """A scan of an image folder in a thread of its own, and the photos that it has found so far."""

    def __init__(self, image_dir: Folder, rule: SplitRule, *, copies: int) -> None:
        """Begin to scan; `rule` splits the photos, `copies` distorted ones of each training photo are wanted."""
        self.image_dir, self.seconds = image_dir, 0.0
        self._rule, self._copies = rule, copies
        self._stream = ListingStream()
        self._chunks = iter(self._stream)
        self._first: list[str] | None = None
        self._scanned: Future[Dataset] = Future()
        self._may_go_on = threading.Event()
        threading.Thread(target=self._scan, daemon=True).start()

    def first(self) -> list[str] | None:
        """Return the first chunk of photos, and wait for it; None where there is none."""
        if self._first is None:
            self._first = next(self._chunks, None)
        return self._first

    def go_on(self) -> None:
        """List what follows the first chunk: until then, the listing leaves the processor to what opens the network."""
        self._may_go_on.set()

    def chunks(self) -> Iterator[list[str]]:
        """Yield chunks of photos of one class folder each, and wait for them; once."""
        first = self.first()
        return itertools.chain([first] if first else [], self._chunks)

    def part(self, paths: Sequence[str]) -> Dataset:
        """Return the data set of some photos, as if they were of one class."""
        return Dataset(self.image_dir, ("",), tuple(Example(path, 0, self._rule.assign(path)) for path in paths))

    def dataset(self) -> Dataset:
        """Return the whole data set, and wait for it.

        Raises:
            DatasetError: As `scan`.
            StorageError: As `scan`.
        """
        self.go_on()
        return self._scanned.result()

    def _scan(self) -> None:
        started = time.perf_counter()
        try:
            self._scanned.set_result(scan(self.image_dir, self._rule, on_listed=self._take))
        except BaseException as error:  # raised again in the thread that waits for the data set
            self._scanned.set_exception(error)
        self.seconds = time.perf_counter() - started
        self._stream.end()

    def _take(self, folder: str, paths: Sequence[str]) -> None:
        # Which photos of a ready-made split get copies is known when all its folders are.
        if not (self._copies and "/" in folder):
            self._stream.take(folder, paths)
            if self._stream.has_begun:
                self._may_go_on.wait()


def compute(listing: Listing, source: BackboneSource, settings: PreparationSettings, terminal: Terminal) -> int:
    """Compute the bottlenecks of photos as they are listed, and return how many.

    The engine is chosen with the photos of the first chunk. Shards that fail are left to the fill.

    Raises:
        RetrainError: Something that the user can fix.
    """
    first = listing.first()
    if first is None:
        return 0
    with ExitStack() as opened:
        dataset, started = listing.part(first), time.perf_counter()
        network = preparation.open_network(dataset, source, settings, None, terminal=terminal, opened=opened)
        listing.go_on()
        extractor, elsewhere = network.extractor, network.extractor.elsewhere
        if not isinstance(elsewhere, ClusterComputing):
            return 0
        store = opened.enter_context(Store(network.folder, dimension=network.backbone.dimension))
        merging, advance = elsewhere.merging(extractor, store), terminal.progress("Bottlenecks while listing", "image")
        done = 0
        parts = map(listing.part, listing.chunks())
        for merged in merging.run(_tasks(parts, extractor, store, settings.copies)):
            done += len(merged.rows)
            advance(done, 0)
            if news := merging.summary.news():
                terminal.say(news)
        if done:
            terminal.say(merging.summary.text(time.perf_counter() - started, listing.seconds))
        return done


def _tasks(parts: Iterator[Dataset], extractor: FeatureExtractor, store: Store, copies: int) -> Iterator[Task]:
    """Yield the shards of data sets, each without what the store has."""
    stamp = partial(access.stamp_of, extractor.image_dir)
    for part in parts:
        rows = list_variants(part, copies=copies).rows
        _, todo = computing.missing(rows, extractor=extractor, store=store)
        if todo:
            shard = shards.shard_of([rows[index] for index in todo], extractor, store.folder.name, stamp)
            yield Task(shard.name, shard)
