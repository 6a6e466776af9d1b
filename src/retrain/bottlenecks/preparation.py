"""From photos to bottlenecks: everything that comes before the training of one backbone's head."""

import os
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.engines import FLOAT32, EngineRequest
from retrain.backbones.loading import Backbone, load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource
from retrain.bottlenecks import choosing, computing, left_overs
from retrain.bottlenecks.computing import ComputeResult, Elsewhere, FeatureExtractor, Stopwatch
from retrain.bottlenecks.legacy_cache import LegacyCache
from retrain.bottlenecks.reading import BottleneckReader
from retrain.bottlenecks.store import Store
from retrain.data import distortions
from retrain.data.dataset import Dataset, without
from retrain.data.split import Split, SplitRule, is_ready_made
from retrain.data.variants import Distorter, Variant, Variants, list_variants
from retrain.errors import plural
from retrain.metadata import TrainingSplit
from retrain.storage.folders import Folder
from retrain.terminal import Terminal

if TYPE_CHECKING:
    from retrain.bottlenecks.cluster.merging import Runs

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = "fine_tuned_"  # how the names of folders begin that belong to one run, in the folder of a store
LOCK_FILE = "in_use.lock"  # which every run that works in a store's folder holds
_NAMED_AT_MOST = 10
_NAMED_IN_MODEL = 50_000  # training photos, which take 7 bytes each in every file
_SHEET_ROWS, _SHEET_COPIES = 8, 8  # photos on the contact sheet of distortions, and copies of each


@dataclass(frozen=True)
class PreparationSettings:
    """Where stores are, how training photos are distorted, and what computes bottlenecks.

    `copies` is the number of distorted copies of each training photo, 0 for the photos themselves; `distribution` is
    as in `devices.strategy`. `cluster` computes what stores lack, None for this machine; its workers leave parts in
    `parts`, by default in `bottleneck_dir`; the listing of the photos took `listing` seconds.
    """

    bottleneck_dir: Path
    distorter: Distorter
    copies: int = 0
    distribution: str = "none"
    request: EngineRequest = EngineRequest()
    cluster: "Runs | None" = None
    parts: Folder | None = None
    listing: float = 0.0


@dataclass(frozen=True)
class PreparedDataset:
    """The readable part of a data set and its variants, what reads and computes their bottlenecks, and the backbone.

    `folder` holds the store; `rejected` maps unreadable photos to the reason. `runner` is the backbone in float32 and
    not in OpenVINO, as it is in exported files; `read_exactly` gives the bottlenecks of that for the test photos.
    """

    dataset: Dataset
    variants: Variants
    read: BottleneckReader
    extractor: FeatureExtractor
    backbone: Backbone
    backbone_source: BackboneSource
    folder: Path
    rejected: dict[str, str]
    runner: BackboneRunner
    read_exactly: BottleneckReader


def match_legacy_cache(spec: BackboneSpec, legacy: LegacyCache | None, photos: int, terminal: Terminal) -> BackboneSpec:
    """Return the backbone cut where the original cut it, if most of the photos have the original's bottlenecks."""
    if legacy is None or 2 * len(legacy.files) <= photos or legacy.dimension != spec.original_dimension:
        return spec
    terminal.say(
        f"{legacy.folder} holds the original's bottlenecks, outputs of {spec.original_target}: training on those. "
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
    """Return all variants of a data set with their bottlenecks, computed where the store and `legacy` lack them.

    The backbone's source is from `families.locate`. The store is closed with `opened`.

    Raises:
        RetrainError: Something that the user can fix.
    """
    network = open_network(dataset, source, settings, legacy, terminal=terminal, opened=opened)
    backbone, exact, extractor = network.backbone, network.exact, network.extractor
    store = opened.enter_context(Store(network.folder, dimension=backbone.dimension))
    variants, result = _fill(dataset, store, extractor, copies=settings.copies, terminal=terminal)
    read = BottleneckReader(variants.rows, result.rows, extractor=extractor, store=store)
    in_float32, home = settings.request.precision == FLOAT32, backbone.graph.parent
    read_exactly = read if in_float32 else _exact_reader(variants, exact, home, terminal, opened)
    prepared = PreparedDataset(
        variants.dataset, variants, read, extractor, backbone, network.source, network.folder, result.rejected,
        exact.runner, read_exactly,
    )  # fmt: skip
    _report(prepared, result.computed, settings.copies, terminal)
    if legacy:
        _report_legacy_cache(legacy, result.legacy, backbone.dimension, terminal)
    return prepared


@dataclass(frozen=True)
class Network:
    """A backbone, and what computes its bottlenecks: `extractor` with the engine that was chosen, `exact` in float32.

    `source` is that of the store, whose folder is `folder`.
    """

    backbone: Backbone
    source: BackboneSource
    folder: Path
    exact: FeatureExtractor
    extractor: FeatureExtractor


def open_network(
    dataset: Dataset,
    source: BackboneSource,
    settings: PreparationSettings,
    legacy: LegacyCache | None,
    *,
    terminal: Terminal,
    opened: ExitStack,
) -> Network:
    """Return a backbone with the engine that suits some photos; the arguments are those of `prepare`.

    Raises:
        RetrainError: Something that the user can fix.
    """
    home = settings.bottleneck_dir / source.folder_name
    _remove_left_overs(home, opened)
    backbone = _load(source, home, terminal)
    runner = BackboneRunner(backbone, terminal.warn, distribution=settings.distribution)
    elsewhere = _elsewhere(settings, dataset, terminal)
    exact = FeatureExtractor(dataset.image_dir, runner, settings.distorter, elsewhere=elsewhere)
    if legacy and legacy.dimension == backbone.dimension and settings.request.precision == FLOAT32:
        exact = replace(exact, legacy_vector=legacy.vector)
    variants = list_variants(dataset, copies=settings.copies)
    source, runner = choosing.choose(settings.request, source, variants, exact, terminal)
    folder = settings.bottleneck_dir / source.folder_name
    if folder != home:
        _remove_left_overs(folder, opened)
    return Network(backbone, source, folder, exact, replace(exact, runner=runner, stopwatch=Stopwatch(), renewed=set()))


def _elsewhere(settings: PreparationSettings, dataset: Dataset, terminal: Terminal) -> Elsewhere | None:
    if settings.cluster is None:
        return None
    # Imported late: most runs have nothing to do with clusters.
    from retrain.bottlenecks.cluster.computing import ClusterComputing

    depth = 2 if is_ready_made(dataset) else 1
    parts = settings.parts or settings.bottleneck_dir
    return ClusterComputing(settings.cluster, parts, depth, terminal.say, settings.listing)


def _load(source: BackboneSource, folder: Path, terminal: Terminal) -> Backbone:
    with terminal.waiting("Loading the network"):
        backbone = load_backbone(source, folder)
    terminal.detail(
        f"{backbone.architecture}: node {backbone.input}; {backbone.dimension} features at node {backbone.target}."
    )
    return backbone


def _exact_reader(
    variants: Variants, extractor: FeatureExtractor, folder: Path, terminal: Terminal, opened: ExitStack
) -> BottleneckReader:
    """Return a reader of the test photos' bottlenecks in float32, by which the graph is measured that is exported.

    They are kept in the store of a folder, which is closed with `opened`.

    Raises:
        StoreError: A photo cannot be read any more.
    """
    left_overs.merge(folder, extractor, terminal)
    store = opened.enter_context(Store(folder, dimension=extractor.runner.backbone.dimension))
    indices, advance = variants.members[Split.TESTING], terminal.progress("Test photos in float32", "image")
    return BottleneckReader.filled(variants.rows, indices, extractor=extractor, store=store, advance=advance)


def _remove_left_overs(folder: Path, opened: ExitStack) -> None:
    """Remove what killed runs left in a store's folder, unless other runs work now; they see that this one does."""
    if fcntl is None:
        return
    with suppress(OSError):  # a disk that may only be read, or that has no locks
        folder.mkdir(parents=True, exist_ok=True)
        # Not the folder itself, which belongs to whoever puts a result of theirs into it.
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        opened.callback(os.close, lock)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in [*folder.glob(f"{TEMPORARY}*"), *folder.rglob(".backbone.*")]:
                shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):  # a folder, removed or not
                    path.unlink()
        fcntl.flock(lock, fcntl.LOCK_SH)


def contact_sheet(prepared: PreparedDataset) -> tuple[np.ndarray, list[str]]:
    """Return a sheet of training images, uint8 [h, w, 3], and the class of each row.

    There is one image a row, followed by its first distorted copies.
    """
    first = {e.class_id: e.path for e in reversed(prepared.dataset.examples) if e.split is Split.TRAINING}
    copies = ["", *map(str, range(_SHEET_COPIES))]
    rows = [
        prepared.extractor.pixels([Variant(path, copy) for copy in copies])
        for path in list(first.values())[:_SHEET_ROWS]
    ]
    names = [prepared.dataset.class_names[class_id] for class_id in list(first)[:_SHEET_ROWS]]
    return distortions.contact_sheet(rows), names


def describe_split(prepared: PreparedDataset, rule: SplitRule, group_by: str = "") -> TrainingSplit:
    """Return how photos were split, for the metadata of a model; of very many photos, few are named."""
    variants, dataset = prepared.variants, prepared.dataset
    split = TrainingSplit(rule.validation, rule.testing, is_ready_made(dataset), group_by=group_by)
    rows = variants.members[Split.TRAINING]
    rows = rows[:: len(rows) // sum(dataset.counts(Split.TRAINING))]  # one copy of each photo
    copy = prepared.extractor.distorter.identity(variants.rows[int(rows[0])].copy)
    parts = [variants.members[each] for each in (Split.VALIDATION, Split.TESTING)]
    if group_by and len(rows) <= _NAMED_IN_MODEL:
        split = split.with_held_out(*([variants.rows[row].path for row in part.tolist()] for part in parts))
    if len(rows) > _NAMED_IN_MODEL:
        # The only photos of their classes remain: percentages may say that they are held out.
        labels = variants.labels[rows]
        rows = rows[np.bincount(labels)[labels] == 1]
    # A photo of which one copy was trained on and another one held out is as good as held out: it was measured on.
    return split.with_contents(prepared.read.keys(rows, beside=np.concatenate(parts)), copy)


def _fill(
    dataset: Dataset, store: Store, extractor: FeatureExtractor, *, copies: int, terminal: Terminal
) -> tuple[Variants, ComputeResult]:
    """Return the variants of the readable images, and their rows after computing those that the store lacks."""
    readable, rejected = dataset, dict[str, str]()
    computed = legacy = 0
    while True:
        variants = list_variants(readable, copies=copies)
        stored, todo = computing.missing(variants.rows, extractor=extractor, store=store)
        advance = terminal.progress("Bottlenecks", "image")
        result = computing.compute(variants.rows, todo, extractor=extractor, store=store, advance=advance)
        computed, legacy = computed + result.computed, legacy + result.legacy
        unreadable = stored.rejected | result.rejected
        rejected |= unreadable
        if not unreadable:
            break
        _warn_of_rejected(unreadable, terminal)
        # A class that lost its training images gets others from another split, which may need to be computed.
        readable = without(readable, list(unreadable))
    for note in readable.notes:
        if note not in dataset.notes:
            terminal.warn(note)
    return variants, ComputeResult(np.maximum(stored.rows, result.rows), rejected, computed, legacy)


def _report(prepared: PreparedDataset, computed: int, copies: int, terminal: Terminal) -> None:
    cached = len(prepared.variants.rows) - computed
    distorted = f" ({copies} distorted copies of each training photo)" if copies else ""
    counts = f"{computed} computed, {cached} from the cache" if computed else "all from the cache"
    skipped = f"; {plural(len(prepared.rejected), 'file')} skipped" if prepared.rejected else ""
    terminal.say(f"Features for {plural(len(prepared.dataset.examples), 'photo')}{distorted}: {counts}{skipped}.")
    if prepared.extractor.renewed:
        terminal.say(
            f"Computed again, because earlier versions decoded them otherwise (TIFF, PNG with a colour key): "
            f"{plural(len(prepared.extractor.renewed), 'photo')}."
        )
    seconds = prepared.extractor.stopwatch.seconds
    terminal.detail(
        f"Reading took {seconds['reading']:.1f} s, decoding {seconds['decoding']:.1f} s and running the backbone "
        f"{seconds['running']:.1f} s, in all threads together; storing took {seconds['storing']:.1f} s. The cache is "
        f"{prepared.folder}."
    )


def _warn_of_rejected(rejected: dict[str, str], terminal: Terminal) -> None:
    """Name the photos that were skipped, the first ten of them."""
    for path, reason in list(rejected.items())[:_NAMED_AT_MOST]:
        terminal.warn(f"Skipped {path}: {reason}")
    more = len(rejected) - _NAMED_AT_MOST
    if more > 0:
        terminal.warn(f"Skipped {more} more; the report names them all.")


def _report_legacy_cache(legacy: LegacyCache, used: int, dimension: int, terminal: Terminal) -> None:
    if used:
        terminal.say(f"{used} features read from the original's .txt files in {legacy.folder}.")
    for reason, photos in sorted(legacy.refused.items()):
        terminal.warn(f"{len(photos)} of the original's .txt files in {legacy.folder} are {reason}: not used.")
    if legacy.files and legacy.dimension != dimension:
        terminal.warn(
            f"{len(legacy.files)} of the original's .txt files in {legacy.folder} hold {legacy.dimension} numbers "
            f"each, and this backbone gives {dimension}: not used."
        )
