"""From photos to bottlenecks: everything that comes before the training of one backbone's head."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.loading import Backbone, load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource
from retrain.bottlenecks import computing
from retrain.bottlenecks.computing import ComputeResult, FeatureExtractor, StageSeconds
from retrain.bottlenecks.legacy_cache import LegacyCache
from retrain.bottlenecks.reading import BottleneckReader
from retrain.bottlenecks.store import Store
from retrain.data import distortions
from retrain.data.dataset import Dataset, without
from retrain.data.split import Split
from retrain.data.variants import Distorter, Variant, Variants, list_variants
from retrain.errors import plural
from retrain.terminal import Terminal

_NAMED_AT_MOST = 10
_SHEET_ROWS, _SHEET_COPIES = 8, 8  # photos on the contact sheet of distortions, and copies of each


@dataclass(frozen=True)
class PreparationSettings:
    """Where stores are, how training photos are distorted, and how batches are spread over processors.

    `copies` is the number of distorted copies of each training photo, 0 for the photos themselves; `distribution` is
    as in `devices.strategy`.
    """

    bottleneck_dir: Path
    distorter: Distorter
    copies: int = 0
    distribution: str = "none"


@dataclass(frozen=True)
class PreparedDataset:
    """The readable part of a data set and its variants, what reads and computes their bottlenecks, and the backbone.

    `folder` holds the store; `rejected` maps unreadable photos to the reason.
    """

    dataset: Dataset
    variants: Variants
    read: BottleneckReader
    extractor: FeatureExtractor
    backbone: Backbone
    backbone_source: BackboneSource
    folder: Path
    rejected: dict[str, str]


@dataclass(frozen=True)
class _Features:
    """The readable part of a data set with its variants, where their bottlenecks are, and what it took to get them."""

    dataset: Dataset
    variants: Variants
    rows: np.ndarray
    rejected: dict[str, str]
    computed: int
    legacy: int
    seconds: StageSeconds


def match_legacy_cache(
    spec: BackboneSpec, legacy: LegacyCache | None, *, photos: int, bottleneck_dir: Path, terminal: Terminal
) -> BackboneSpec:
    """Return the backbone cut where the original cut it, if most photos have the original's bottlenecks.

    Args:
        spec: The backbone's row.
        legacy: The original's cache, None where there is none.
        photos: How many photos there are.
        bottleneck_dir: Where the cache is.
        terminal: Prints what was chosen and why.
    """
    if legacy is None or 2 * len(legacy.files) <= photos or legacy.dimension != spec.original_dimension:
        return spec
    terminal.say(
        f"{bottleneck_dir} holds the original's bottlenecks, outputs of {spec.original_target}: training on those. "
        f"To train on ours, pass --bottleneck_tensor={spec.target}."
    )
    return replace(spec, target=spec.original_target)


def prepare(
    dataset: Dataset,
    source: BackboneSource,
    settings: PreparationSettings,
    legacy: LegacyCache | None,
    *,
    terminal: Terminal,
    opened: ExitStack,
) -> PreparedDataset:
    """Return all variants of a data set with their bottlenecks, computed where the store lacks them.

    Args:
        dataset: The photos.
        source: The backbone's weights, from `families.locate`.
        settings: Where and how.
        legacy: The original's cache, None where there is none.
        terminal: Prints progress and results.
        opened: Closes the store when it is closed itself.

    Raises:
        RetrainError: Something that the user can fix.
    """
    folder = settings.bottleneck_dir / source.folder_name
    backbone = load_backbone(source, folder)
    terminal.detail(
        f"{backbone.architecture}: node {backbone.input}; {backbone.dimension} features at node {backbone.target}."
    )
    runner = BackboneRunner(backbone, terminal.warn, distribution=settings.distribution)
    extractor = FeatureExtractor(dataset.image_dir, runner, settings.distorter)
    if legacy and legacy.dimension == backbone.dimension:
        extractor = replace(extractor, legacy_vector=legacy.vector)
    store = opened.enter_context(Store(folder, dimension=backbone.dimension))
    features = _fill(dataset, store, extractor, copies=settings.copies, terminal=terminal)
    _report_features(features, store, settings.copies, terminal)
    if legacy:
        _report_legacy_cache(legacy, features.legacy, settings.bottleneck_dir, terminal)
        if legacy.dimension != backbone.dimension:
            terminal.warn(
                f"{len(legacy.files)} of the original's .txt files in {settings.bottleneck_dir} hold "
                f"{legacy.dimension} numbers each, and this backbone gives {backbone.dimension}: not used."
            )
    read = BottleneckReader(features.variants.rows, features.rows, extractor=extractor, store=store)
    return PreparedDataset(
        features.dataset, features.variants, read, extractor, backbone, source, folder, features.rejected
    )


def contact_sheet(prepared: PreparedDataset) -> np.ndarray:
    """Return a sheet of training images, uint8 [h, w, 3], one a row, each followed by its first distorted copies."""
    first = {e.class_id: e.path for e in reversed(prepared.dataset.examples) if e.split is Split.TRAINING}
    copies = ["", *map(str, range(_SHEET_COPIES))]
    rows = [
        prepared.extractor.pixels([Variant(path, copy) for copy in copies])
        for path in list(first.values())[:_SHEET_ROWS]
    ]
    return distortions.contact_sheet(rows)


def _fill(dataset: Dataset, store: Store, extractor: FeatureExtractor, *, copies: int, terminal: Terminal) -> _Features:
    """Return the bottlenecks of the readable images, after computing those that the store lacks."""
    readable, rejected = dataset, dict[str, str]()
    passes: list[ComputeResult] = []
    while True:
        variants = list_variants(readable, copies=copies)
        stored, todo = computing.missing(variants.rows, extractor=extractor, store=store)
        advance = terminal.progress("Bottlenecks", "image")
        passes.append(computing.compute(variants.rows, todo, extractor=extractor, store=store, advance=advance))
        unreadable = stored.rejected | passes[-1].rejected
        rejected |= unreadable
        if not unreadable:
            break
        _warn_of_rejected(unreadable, terminal)
        # A class that lost its training images gets others from another split, which may need to be computed.
        readable = without(readable, list(unreadable))
    for note in readable.notes:
        if note not in dataset.notes:
            terminal.warn(note)
    return _Features(
        readable,
        variants,
        np.maximum(stored.rows, passes[-1].rows),
        rejected,
        computed=sum(result.computed for result in passes),
        legacy=sum(result.legacy for result in passes),
        seconds=StageSeconds(*map(sum, zip(*(result.seconds for result in passes), strict=True))),
    )


def _report_features(features: _Features, store: Store, copies: int, terminal: Terminal) -> None:
    photos = len(features.dataset.examples)
    cached = len(features.rows) - features.computed
    distorted = f" ({copies} distorted copies of each training photo)" if copies else ""
    counts = f"{features.computed} computed, {cached} from the cache" if features.computed else "all from the cache"
    skipped = f"; {plural(len(features.rejected), 'file')} skipped" if features.rejected else ""
    terminal.say(f"Features for {plural(photos, 'photo')}{distorted}: {counts}{skipped}.")
    seconds = features.seconds
    terminal.detail(
        f"Reading and decoding took {seconds.reading:.1f} s and running the backbone {seconds.running:.1f} s, in all "
        f"threads together; storing took {seconds.storing:.1f} s. The cache is {store.folder}."
    )


def _warn_of_rejected(rejected: dict[str, str], terminal: Terminal) -> None:
    """Name the photos that were skipped, the first ten of them."""
    for path, reason in list(rejected.items())[:_NAMED_AT_MOST]:
        terminal.warn(f"Skipped {path}: {reason}")
    more = len(rejected) - _NAMED_AT_MOST
    if more > 0:
        terminal.warn(f"Skipped {more} more; the report names them all.")


def _report_legacy_cache(legacy: LegacyCache, used: int, bottleneck_dir: Path, terminal: Terminal) -> None:
    if used:
        terminal.say(f"{used} features read from the original's .txt files in {bottleneck_dir}.")
    for reason, photos in sorted(legacy.refused.items()):
        terminal.warn(f"{len(photos)} of the original's .txt files in {bottleneck_dir} are {reason}: not used.")
