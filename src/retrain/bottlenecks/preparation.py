"""From photos to bottlenecks: everything that comes before the training of one backbone's head."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrain.backbones import families
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.loading import Backbone, load_backbone
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.bottlenecks import computing, legacy_cache
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.legacy_cache import LegacyCache
from retrain.bottlenecks.reading import Reader
from retrain.bottlenecks.store import Store
from retrain.data import distortions, variants
from retrain.data.dataset import Dataset, without
from retrain.data.split import Split
from retrain.data.variants import Distorter, Variants
from retrain.terminal import Terminal

_NAMED_AT_MOST = 10
_SHEET_ROWS, _SHEET_COPIES = 8, 8  # photos on the contact sheet of distortions, and copies of each


@dataclass(frozen=True)
class PreparedDataset:
    """The readable part of a data set, its pictures, what runs on them, and where their bottlenecks are."""

    dataset: Dataset
    views: Variants
    read: Reader
    source: FeatureExtractor
    backbone: Backbone
    recipe: BackboneSource
    folder: Path
    rejected: dict[str, str]


def prepare(
    dataset: Dataset,
    spec: BackboneSpec,
    *,
    network: str,
    own_tensor: bool,
    bottleneck_dir: Path,
    model_dir: Path,
    weights: str | None,
    seed: int,
    copier: Distorter,
    copies: int,
    distribution: str,
    check: Callable[[BackboneSource], None],
    terminal: Terminal,
    opened: ExitStack,
) -> PreparedDataset:
    """Return all pictures of a data set with their bottlenecks, computed where the store lacks them.

    Args:
        dataset: The photos.
        spec: The backbone's row.
        network: The backbone's name as the user gave it, which the original named its files by.
        own_tensor: Whether the user chose the bottleneck; otherwise the original's may be used where it is cached.
        bottleneck_dir: Where stores are.
        model_dir: Where downloaded backbones are.
        weights: As in `backbone.locate`.
        seed: Of random weights.
        copier: Makes distorted copies.
        copies: How many of each training photo, 0 for the photos themselves.
        distribution: As in `devices.strategy`.
        check: Refuses a backbone that will not do, before anything is computed with it.
        terminal: Told of progress and results.
        opened: Closes the store when it is closed itself.

    Raises:
        RetrainError: Something that the user can mend.
    """
    paths = [example.path for example in dataset.examples]
    old = legacy_cache.find(bottleneck_dir, dataset.image_dir, paths, network)
    if old and not own_tensor and 2 * len(old.files) > len(paths) and old.dimension == spec.original_dimension:
        terminal.say(
            f"{bottleneck_dir} holds the original's bottlenecks, outputs of {spec.original_target}: training on "
            f"those. --bottleneck_tensor={spec.target} trains on ours."
        )
        spec = replace(spec, target=spec.original_target)
    advance = terminal.progress("Downloading the backbone", "B")
    recipe = families.locate(spec, WeightsRequest(model_dir, weights, seed, advance))
    check(recipe)
    folder = bottleneck_dir / recipe.folder_name
    backbone = load_backbone(recipe, folder)
    terminal.detail(
        f"{backbone.architecture}: node {backbone.input}; {backbone.dimension} features at node {backbone.target}."
    )
    engine = BackboneRunner(backbone, terminal.warn, distribution=distribution)
    source = FeatureExtractor(dataset.image_dir, engine, copier)
    if old and old.dimension == backbone.dimension:
        source = replace(source, recall=old.recall)
    store = opened.enter_context(Store(folder, dimension=backbone.dimension))
    left, shown, read, rejected, recalled = _filled(dataset, store, source, copies, terminal)
    if old:
        _say_what_was_recalled(old, recalled, bottleneck_dir, backbone.dimension, terminal)
    return PreparedDataset(left, shown, read, source, backbone, recipe, folder, rejected)


def contact_sheet(prepared: PreparedDataset) -> np.ndarray:
    """Return rows of training images, uint8 [h, w, 3], each followed by its first distorted copies."""
    first = {e.class_id: e.path for e in reversed(prepared.dataset.examples) if e.split is Split.TRAINING}
    rows = []
    for path in list(first.values())[:_SHEET_ROWS]:
        names = [prepared.source.copier.name(path, str(number)) for number in range(_SHEET_COPIES)]
        rows.append(prepared.source.pictures([path, *names]))
    return distortions.contact_sheet(rows)


def _filled(
    dataset: Dataset, store: Store, source: FeatureExtractor, copies: int, terminal: Terminal
) -> tuple[Dataset, Variants, Reader, dict[str, str], int]:
    """Return the readable images, their pictures, what reads them, what was rejected, and how many were recalled."""
    left, rejected = dataset, dict[str, str]()
    computed = recalled = 0
    while True:
        shown = variants.list_variants(left, source.copier, copies=copies)
        known, todo = computing.missing(shown.names, image_dir=dataset.image_dir, store=store)
        advance = terminal.progress("Bottlenecks", "image")
        found = computing.compute(shown.names, todo, source=source, store=store, advance=advance)
        computed, recalled = computed + found.computed, recalled + found.recalled
        bad = known.rejected | found.rejected
        rejected |= bad
        if not bad:
            break
        _warn_of_rejected(bad, terminal)
        # A class may have lost its training images; then others take their place, and are looked at again.
        left = without(left, list(bad))
    for note in left.notes:
        if note not in dataset.notes:
            terminal.warn(note)
    skipped = f", {len(rejected)} file(s) skipped" if rejected else ""
    distorted = f" ({copies} distorted copies of each training image)" if copies else ""
    terminal.say(f"{len(shown.names)} bottlenecks in {store.folder}: {computed} computed now{skipped}{distorted}.")
    read = Reader(shown.names, np.maximum(known.rows, found.rows), source=source, store=store)
    return left, shown, read, rejected, recalled


def _warn_of_rejected(rejected: dict[str, str], terminal: Terminal) -> None:
    """Name the photos that were skipped, the first ten of them."""
    for path, reason in list(rejected.items())[:_NAMED_AT_MOST]:
        terminal.warn(f"Skipped {path}: {reason}")
    more = len(rejected) - _NAMED_AT_MOST
    if more > 0:
        terminal.warn(f"Skipped {more} more; the report names them all.")


def _say_what_was_recalled(
    old: LegacyCache, recalled: int, bottleneck_dir: Path, dimension: int, terminal: Terminal
) -> None:
    if recalled:
        terminal.say(f"{recalled} bottlenecks read from the original's .txt files in {bottleneck_dir}.")
    for reason, photos in sorted(old.refused.items()):
        terminal.warn(f"{len(photos)} of the original's .txt files in {bottleneck_dir} are {reason}: computed anew.")
    if old.dimension != dimension:
        terminal.warn(
            f"{len(old.files)} of the original's .txt files in {bottleneck_dir} hold {old.dimension} numbers "
            f"each, and this backbone gives {dimension}: not used."
        )
