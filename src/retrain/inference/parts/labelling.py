"""Labels the photos of a listing into parts, on this machine or a cluster; parts that are there are not made again."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import retrain
from retrain.cluster.here import Here
from retrain.cluster.opening import LazyCluster
from retrain.cluster.tasks import Outcome, Task
from retrain.errors import ClusterError, ExportError, plural
from retrain.files import sha256_of_all
from retrain.formats.classifier import Classifier
from retrain.inference.lines import count_errors
from retrain.inference.parts import shards, work
from retrain.inference.parts.photos import Photo
from retrain.inference.parts.shards import Shard
from retrain.inference.parts.work import Part, Shared
from retrain.storage import access
from retrain.storage.chunks import chunks, id_of

_READ_AT_ONCE = 32  # parts that are there, for the number of photos in them that could not be read
_NODES_NAMED = 8


@dataclass
class Summary:
    """What became of a listing.

    `here` counts the parts that were there before, `replaced` those of photos that have changed since, and `others`
    names parts that are of no photo of this list. `nodes` counts the photos that each node labelled; `took` is in s.
    """

    photos: int = 0
    parts: int = 0
    here: int = 0
    unreadable: int = 0
    replaced: int = 0
    others: Sequence[str] = ()
    nodes: Counter[str] = field(default_factory=Counter)
    took: float = 0.0

    def lines(self, results: object) -> list[str]:
        """Return in words how many photos there were and where their labels are."""
        if self.parts and self.here == self.parts:
            found = f"{plural(self.photos, 'photo')}: all {self.parts} parts were there" if self.parts > 1 else (
                f"{plural(self.photos, 'photo')}: the part was there"
            )  # fmt: skip
            text = [f"{found}, in {results}"]
        else:
            were_there = f", {self.here} of them there before" if self.here else ""
            text = [f"{self._speed()}: {plural(self.parts, 'part')} in {results}{were_there}"]
        if self.replaced:
            text.append(f"{plural(self.replaced, 'part')} with photos that have changed since: replaced")
        if self.others:
            text.append(
                f"{plural(len(self.others), 'part')} there with other photos than these, {self.others[0]} first: move "
                f"away what is not to be read with the rest"
            )
        return text

    def _speed(self) -> str:
        labelled = self.nodes.total()
        rates = [f"{node} {count / self.took:.0f}" for node, count in self.nodes.most_common(_NODES_NAMED)]
        more = len(self.nodes) - len(rates)
        nodes = ", ".join(rates) + (f" and {more} more" if more else "")
        where = f" on {len(self.nodes)} nodes ({nodes})" if len(self.nodes) > 1 else ""
        return f"{plural(labelled, 'photo')} in {self.took:.1f} s, {labelled / self.took:.0f} photos/s{where}"


def run_id(model: Classifier, shared: Shared, words: Sequence[object]) -> str:
    """Return digits for all that labels follow from beside the photos: what is in the model file, flags and words."""
    metadata, options = model.metadata, [shared.form, shared.k, shared.min_score, shared.views]
    known = [retrain.__version__, sha256_of_all(model.path), json.loads(metadata.to_json()), options]
    return id_of([*known, [str(word) for word in words]], [])[: shards.RUN_DIGITS]


def label_into_parts(
    photos: Iterable[Photo],
    run: str,
    shared: Shared,
    runner: LazyCluster | Here,
    *,
    replace: bool,
    advance: Callable[[int, int], None],
) -> Summary:
    """Label photos into parts, and return what became of them.

    Args:
        photos: In the order of the parts; they may be slow to come.
        run: From `run_id`.
        shared: With the results' folder and what is written.
        runner: Opens its workers where a part is missing.
        replace: Whether parts of this run that have other photos than these are removed.
        advance: Called with the number of photos so far, and of all, 0 where that is not known yet.

    Raises:
        ClusterError: Some shards failed; all other parts are there.
        UsageError: The folder has parts of another run.
    """
    labelling = _Labelling(run, shared, advance)
    todo = labelling.tasks(photos)
    first = next(todo, None)
    started = time.perf_counter()
    if first is not None:
        for outcome in runner.run(work.open_worker, {"shared": shared}, chain([first], todo)):
            labelling.take(outcome)
    return labelling.end(time.perf_counter() - started, replace=replace)


class _Labelling:
    """One run, with its results so far."""

    def __init__(self, run: str, shared: Shared, advance: Callable[[int, int], None]) -> None:
        self._run, self._shared, self._advance = run, shared, advance
        self._present = shards.parts_in(shared.results, run, shared.form)
        self._kept: set[str] = set()
        self._failures: list[Outcome] = []
        # The thread that lists counts what was there and all, the one that takes outcomes what is new.
        self._were_there = self._labelled = self._total = 0
        self._summary = Summary()

    def tasks(self, photos: Iterable[Photo]) -> Iterator[Task]:
        """Yield a task for each part that is missing."""
        for shard in shards.shards(photos, self._run, self._shared.form):
            self._summary.photos += len(shard.photos)
            self._summary.parts += 1
            if shard.part in self._present:
                self._kept.add(shard.part)
                self._were_there += len(shard.photos)
            else:
                yield Task(shard.name, shard)
        self._total = self._summary.photos

    def take(self, outcome: Outcome) -> None:
        """Add what became of a task."""
        shard: Shard = outcome.task.value
        part: Part | None = outcome.result
        if part is None:
            self._failures.append(outcome)
            return
        results = self._shared.results
        if isinstance(results, Path) and not (results / shard.part).exists():
            raise ExportError(
                f"what {outcome.node} wrote to {results} is not to be seen on this machine. Give a --results on a disk "
                f"that all nodes share, or at a URL."
            )
        self._summary.unreadable += part.unreadable
        self._summary.nodes[outcome.node] += part.photos
        self._labelled += part.photos
        self._advance(self._were_there + self._labelled, self._total)

    def end(self, took: float, *, replace: bool) -> Summary:
        """Return the summary, after removing parts that others replace."""
        if self._failures:
            first, more = self._failures[0], len(self._failures) - 1
            others = f" {plural(more, 'other part')} failed, too." if more else ""
            raise ClusterError(
                f"the photos {first.task.name} could not be labelled: {first.failure}.{others} All other parts are "
                f"there: move such photos away, or run again."
            )
        summary, results, form = self._summary, self._shared.results, self._shared.form
        summary.took, summary.here = max(took, 1e-9), len(self._kept)
        for some in chunks(sorted(self._kept), _READ_AT_ONCE):
            for text in access.of(results).read_many(some):
                if isinstance(text, OSError):
                    raise ExportError(f"cannot read {text.filename}: {text.strerror}. Run again.") from text
                summary.unreadable += count_errors(text, form)
        unused = sorted(self._present - self._kept)
        if replace:
            shards.remove(results, unused)
            summary.replaced = len(unused)
        else:
            summary.others = unused
        return summary
