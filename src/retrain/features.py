"""From settings to photos with features; all that can be refused before the work is refused here."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from retrain import folds, networks, results
from retrain.backbones import catalogue, families, loading
from retrain.backbones.engines import FLOAT32, EngineRequest
from retrain.bottlenecks import legacy_cache
from retrain.bottlenecks.preparation import PreparationSettings, PreparedDataset, match_legacy_cache, prepare
from retrain.config import RetrainConfig, check, settings_of
from retrain.data.dataset import Dataset, scan
from retrain.data.split import Split
from retrain.data.variants import Distorter
from retrain.errors import UsageError
from retrain.formats import frozen_graph
from retrain.plans import check_length, distortions_of, scope_of
from retrain.session import Session
from retrain.storage.folders import RemoteFolder
from retrain.terminal import Terminal
from retrain.training import trainable_layers
from retrain.training.recipe import AUTO


@dataclass(frozen=True)
class ListedPhotos:
    """A data set, what computes features of its photos, and how many seconds their listing took.

    `cluster` computes them in shards; None is for this process, as they come.
    """

    dataset: Dataset
    cluster: Any
    listing: float


def list_photos(configs: Sequence[RetrainConfig], terminal: Terminal, opened: ExitStack) -> ListedPhotos:
    """Return the photos of a run, with all refused before the work that settings can be refused for.

    A cluster computes already while a remote folder is listed. It is left with `opened`.

    Args:
        configs: The combinations of settings that are trained: they have the same folders.
        terminal: Where to print.
        opened: Closed at the end of the run.

    Raises:
        RetrainError: Says what is wrong.
    """
    config = configs[0]
    for each in configs:
        _check_settings(each)
    cluster, started = _cluster(config, terminal, opened), time.monotonic()
    if config.cluster and isinstance(config.image_dir, RemoteFolder) and not config.fine_tune_from:
        results.check(config)  # before the work that begins with the listing
        dataset = _computed_ahead(config, cluster, terminal)
    else:
        dataset = scan(config.image_dir, config.split_rule)
    listing = time.monotonic() - started
    check_split(configs, dataset)
    results.check(config)
    return ListedPhotos(dataset, cluster, listing)


def photos_to_check(config: RetrainConfig, terminal: Terminal, opened: ExitStack) -> ListedPhotos:
    """Return the photos of a folder that nothing is trained on; the arguments are those of `list_photos`.

    Raises:
        RetrainError: Says what is wrong.
    """
    _check_settings(config)
    cluster, started = _cluster(config, terminal, opened), time.monotonic()
    dataset = scan(config.image_dir, config.split_rule)
    return ListedPhotos(dataset, cluster, time.monotonic() - started)


def prepare_features(config: RetrainConfig, photos: ListedPhotos, session: Session) -> PreparedDataset:
    """Return the photos with their features, computed where the store lacks them.

    Raises:
        RetrainError: Something that the user can fix.
    """
    dataset, terminal = photos.dataset, session.terminal
    spec, network = networks.spec_of(config), config.tfhub_module or config.architecture
    paths = [example.path for example in dataset.examples]
    legacy = legacy_cache.find(config.store_dir, config.image_dir, paths, network)
    if legacy and not networks.computes_what_its_name_says(config, spec):
        legacy = legacy.without_files("of this network with its own input, weights and features")
    if config.bottleneck_tensor is None:
        spec = match_legacy_cache(spec, legacy, len(paths), terminal)
    source = networks.located(spec, config, terminal)
    if config.fine_tune_from:
        # An unknown layer fails here, before anything is computed.
        known = partial(loading.known_graph, folder=config.store_dir / source.folder_name)
        trainable_layers.split_network(families.trainable_network(source, known).model, config.fine_tune_from)
    settings = _preparation(config, photos.cluster, photos.listing)
    return prepare(dataset, source, settings, legacy, terminal=terminal, opened=session.opened)


def undistorted(config: RetrainConfig) -> RetrainConfig:
    """Return the settings of a training on photos as they are."""
    defaults: dict[str, Any] = {each.name: each.default for each in settings_of("distortions")}
    return replace(config, fine_tune_from=None, **defaults)


def seed_of_features(config: RetrainConfig) -> int:
    """Return the seed where bottlenecks follow from it, 0 where every seed has the same."""
    return config.random_seed if distortions_of(config) or config.weights == catalogue.RANDOM else 0


def _computed_ahead(config: RetrainConfig, cluster: Any, terminal: Terminal) -> Dataset:
    """Return the data set, after its listing and the computing of features that began with it."""
    # Imported late: most runs have nothing to do with clusters.
    from retrain.bottlenecks import ahead

    copies = config.distortion_copies if distortions_of(config) else 0
    listing = ahead.Listing(config.image_dir, config.split_rule, copies=copies)
    first = listing.first()
    network = config.tfhub_module or config.architecture
    # Features of the original's rule which network it is, once all photos are known.
    if first and legacy_cache.find(config.store_dir, config.image_dir, first, network) is None:
        source = networks.located(networks.spec_of(config), config, terminal)
        ahead.compute(listing, source, _preparation(config, cluster), terminal)
    return listing.dataset()


def _preparation(config: RetrainConfig, cluster: Any, listing: float = 0.0) -> PreparationSettings:
    distorter = Distorter(distortions_of(config), config.random_seed)
    return PreparationSettings(
        config.store_dir,
        distorter,
        copies=config.distortion_copies if distorter.distortions else 0,
        distribution="none" if config.distribution == "none" else "mirrored",
        request=EngineRequest(config.engine, config.precision),
        cluster=cluster,
        parts=config.bottleneck_dir,
        listing=listing,
    )


def _cluster(config: RetrainConfig, terminal: Terminal, opened: ExitStack) -> Any:
    """Return what computes features in shards, None where this process computes them as they come."""
    # Imported late: most runs have nothing to do with clusters.
    if config.cluster is not None:
        from retrain.cluster.opening import ClusterRequest, LazyCluster

        request = ClusterRequest(config.cluster, config.cluster_min, config.cluster_max)
        return LazyCluster(request, terminal, opened)
    if isinstance(config.bottleneck_dir, RemoteFolder):
        from retrain.cluster.here import Here

        return Here()
    return None


def _check_settings(config: RetrainConfig) -> None:
    """Refuse settings that make no sense, and a network that is not known."""
    check(config)
    frozen_graph.check_output(config.final_tensor_name, scope=scope_of(config), layers=len(config.hidden_units) + 1)
    networks.spec_of(config)
    _check_cluster(config)
    precision = EngineRequest(config.engine, config.precision).precision
    if config.fine_tune_from and precision != FLOAT32:
        raise UsageError(f"--fine_tune_from trains in float32, not in {precision}. Leave --precision out.")
    if config.fine_tune_from and config.time_limit is not None and config.distribution == "multi_worker":
        # Their clocks differ, and a worker that takes a step alone waits for ever.
        raise UsageError("--time_limit cannot end several workers at the same step. Give --fine_tune_steps instead.")


def _check_cluster(config: RetrainConfig) -> None:
    fewest, most = config.cluster_min, config.cluster_max
    if config.cluster is None and (fewest, most) != (None, None):
        raise UsageError("--cluster_min and --cluster_max are numbers of workers of a cluster. Give --cluster, too.")
    if fewest is not None and most is not None and fewest > most:
        raise UsageError(f"--cluster_min {fewest} is more than --cluster_max {most}.")
    if config.cluster is not None:
        # Imported late: most runs have nothing to do with clusters.
        from retrain.cluster.starting import check_address, require_ray

        check_address(config.cluster)
        require_ray()


def check_split(configs: Sequence[RetrainConfig], dataset: Dataset) -> None:
    """Refuse combinations of settings that ask for more than the photos of each split, and their groups, can give.

    Raises:
        UsageError: Names the flag.
    """
    for each in configs:
        check_length(each, dataset)
        folds.check(each, dataset)
    _check_validation(configs[0], dataset, several=len(configs) > 1)


def _check_validation(config: RetrainConfig, dataset: Dataset, *, several: bool) -> None:
    """Refuse what chooses by validation images where there are none."""
    choosing = {
        f"--learning_rate {AUTO}": config.learning_rate == AUTO,
        "--early_stopping_patience": config.early_stopping_patience is not None,
        "--fine_tune_from": config.fine_tune_from is not None,
        "a flag with several values": several,
    }
    asked = [flag for flag, wanted in choosing.items() if wanted]
    if asked and not sum(dataset.counts(Split.VALIDATION)):
        raise UsageError(
            f"{asked[0]} chooses by validation images, and there are none. Give --validation_percentage, or make a "
            f"folder validation/ beside train/."
        )
