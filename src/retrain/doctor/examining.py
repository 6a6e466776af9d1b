"""Runs all checks on photos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrain.doctor import clusters, growing, judged, quality, repeated, shortcuts, threads, unreadable
from retrain.doctor.findings import Finding, worst_first
from retrain.doctor.photos import Photos

CHECKS: tuple[Callable[[Photos], Sequence[Finding]], ...] = (
    unreadable.check,
    repeated.check,
    quality.check,
    shortcuts.check,
    judged.check,
    clusters.check,
    growing.check,
)


@dataclass(frozen=True)
class Examination:
    """Photos and what was found, worst first."""

    photos: Photos
    findings: Sequence[Finding]


def examine(photos: Photos, advance: Callable[[int, int], None] = lambda done, total: None) -> Examination:
    """Return what all checks find, worst first; `advance` is called with the checks that are done, and with all.

    Raises:
        StoreError: A bottleneck is damaged, and its photo cannot be read any more.
    """
    found: list[Finding] = []
    with threads.one_of_blas():
        for done, check in enumerate(CHECKS, start=1):
            found += check(photos)
            advance(done, len(CHECKS))
    return Examination(photos, worst_first(found))
