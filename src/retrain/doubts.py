"""What is wrong with the photos of a run that touches its figures, as far as it costs next to nothing.

Held-out photos with copies that are trained on, test photos that lie in the wrong class, and what gives classes away
besides what is shown. What is found is kept for the next run.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from retrain.candidates import Candidate
from retrain.doctor import copies, leakage, shortcuts, tested, threads
from retrain.doctor.copies import Copies
from retrain.doctor.findings import Finding, Kind, worst_first
from retrain.doctor.photos import Photos, photos_of
from retrain.errors import RetrainError
from retrain.evaluation.kept import Kept, key_of
from retrain.evaluation.report import Doubt, TestScores
from retrain.plans import distortions_of

_MOST_PHOTOS = 20_000  # more take longer than a training: check_images looks at them
# Parts of the keys by which findings are kept, with their sentences: change them when these change.
_COPIES, _TESTED, _SHORTCUTS = b"copies 1", b"tested 2", b"shortcuts 2"
# What may go wrong with a photo, or with the cache: then nothing is said.
_FAILURES = (RetrainError, OSError, ValueError, KeyError, MemoryError)


def doubts_of(chosen: Candidate, rows: np.ndarray, test: TestScores) -> Sequence[Doubt]:
    """Return what touches the figures of a run, worst first.

    Nothing where it would take long: of more than 20,000 photos, of distorted copies, and within a time limit.

    Args:
        chosen: What was trained.
        rows: The indices of the test photos among all variants, int64 [n].
        test: What the written graph says of them.
    """
    config, prepared = chosen.config, chosen.prepared
    if len(prepared.dataset.examples) > _MOST_PHOTOS or distortions_of(config) or config.time_limit is not None:
        return []
    try:
        looking = _Looking(chosen, photos_of(prepared, config.random_seed))
        with threads.one_of_blas():
            found = worst_first([*looking.leaked(rows, test), *looking.mislabelled(rows, test), *looking.shortcuts()])
        looking.kept.write()
    except _FAILURES:
        return []
    return [Doubt(each.kind, each.severity, each.sentence, each.photos, each.figures) for each in found]


@dataclass(frozen=True)
class _Looking:
    """Looks at the photos of a run."""

    chosen: Candidate
    photos: Photos

    @cached_property
    def kept(self) -> Kept:
        """Return what keeps what was found, beside the store."""
        return Kept(self.chosen.prepared.folder)

    @cached_property
    def _contents(self) -> bytes:
        """Return what stands for all photos and their bottlenecks."""
        checksums = self.chosen.prepared.read.checksums(np.arange(len(self.photos.labels)))
        return key_of(b"".join(key or b"?" for key in self.photos.keys), checksums.tobytes())

    @cached_property
    def _names(self) -> bytes:
        """Return what stands for all that findings say of photos besides what is in them."""
        dataset, labels = self.photos.dataset, self.photos.labels
        names = "\0".join([*dataset.class_names, *(example.path for example in dataset.examples)])
        return key_of(names.encode("utf-8", "surrogateescape"), labels.tobytes(), repr(self.photos.seed).encode())

    def leaked(self, rows: np.ndarray, test: TestScores) -> list[Finding]:
        """Return held-out photos with copies that are trained on."""
        predicted = np.full(len(self.photos.labels), -1)
        predicted[rows] = test.probabilities.argmax(axis=1)
        (value,) = self.kept.through(
            [key_of(_COPIES, self._contents)], lambda places: [_packed(copies.find(self.photos))]
        )
        return leakage.check(self.photos, _unpacked(value or b""), lambda: predicted)

    def mislabelled(self, rows: np.ndarray, test: TestScores) -> list[Finding]:
        """Return test photos that lie in the wrong class."""
        numbers, once = np.unique(rows, return_index=True)
        scores = test.probabilities[once]
        key = key_of(_TESTED, self._names, numbers.tobytes(), scores.tobytes())
        return self._through(key, lambda: tested.check(self.photos, numbers, scores)) if len(numbers) else []

    def shortcuts(self) -> list[Finding]:
        """Return what gives classes away; nothing where photos would have to be read for that."""

        def look() -> list[Finding] | None:
            known = self.chosen.prepared.read.stored_properties(np.arange(len(self.photos.labels)))
            if known is None:
                return None
            # Without a folder to keep it in, nothing is looked for that needs pixels.
            return shortcuts.check(replace(self.photos, describe=lambda numbers: known[numbers], folder=None))

        return self._through(key_of(_SHORTCUTS, self._names, self._contents), look)

    def _through(self, key: bytes, look: Callable[[], list[Finding] | None]) -> list[Finding]:
        """Return findings without their marks: kept, or found, and then kept from now on."""

        def make(places: list[int]) -> list[bytes | None]:
            found = look()
            rows = None if found is None else [{**asdict(each), "marks": ()} for each in found]
            return [None if rows is None else json.dumps(rows).encode()]

        (value,) = self.kept.through([key], make)
        return [Finding(**{**row, "kind": Kind(row["kind"])}) for row in json.loads(value or b"[]")]


def _packed(found: Copies) -> bytes:
    values = found.content.tolist(), found.pairs.tolist(), [list(map(int, group)) for group in found.groups]
    return json.dumps(values).encode()


def _unpacked(value: bytes) -> Copies:
    content, pairs, groups = json.loads(value)
    return Copies(np.array(content, np.int64), np.array(pairs, np.int64).reshape(-1, 2), groups)
