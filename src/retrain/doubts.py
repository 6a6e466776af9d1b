"""What is wrong with the photos of a run that touches its figures: held-out photos with copies that are trained on."""

import json
from collections.abc import Sequence

import numpy as np

from retrain.candidates import Candidate
from retrain.doctor import copies, leakage
from retrain.doctor.copies import Copies
from retrain.doctor.photos import Photos, photos_of
from retrain.errors import RetrainError
from retrain.evaluation.kept import Kept, key_of
from retrain.evaluation.report import Doubt, TestScores
from retrain.plans import distortions_of

_MOST_PHOTOS = 20_000  # more take longer than a training: check_images looks at them
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
        photos = photos_of(prepared, config.random_seed)
        predicted = np.full(len(photos.labels), -1)
        predicted[rows] = test.probabilities.argmax(axis=1)
        found = leakage.check(
            photos, _copies(photos, prepared.read.checksums(np.arange(len(photos.labels)))), predicted
        )
    except _FAILURES:
        return []
    return [Doubt(each.kind, each.severity, each.sentence, each.photos, each.figures) for each in found]


def _copies(photos: Photos, checksums: np.ndarray) -> Copies:
    """Return which photos show the same, kept for the next run by contents and checksums of bottlenecks uint32 [N]."""
    if photos.folder is None:
        return copies.find(photos)
    kept = Kept(photos.folder)
    contents = b"".join(key or b"?" for key in photos.keys)
    (value,) = kept.through(
        [key_of(b"copies 1", contents, checksums.tobytes())], lambda places: [_packed(copies.find(photos))]
    )
    kept.write()
    return _unpacked(value or b"")


def _packed(found: Copies) -> bytes:
    values = found.content.tolist(), found.pairs.tolist(), [list(map(int, group)) for group in found.groups]
    return json.dumps(values).encode()


def _unpacked(value: bytes) -> Copies:
    content, pairs, groups = json.loads(value)
    return Copies(np.array(content, np.int64), np.array(pairs, np.int64).reshape(-1, 2), groups)
