"""The families of backbones, one row each: functions to locate, freeze and fine-tune their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from retrain.backbones import efficientnet_lite, graph_files, graph_networks, hub, keras_networks
from retrain.backbones.catalogue import BackboneSpec, Kind
from retrain.backbones.keras_networks import Network
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.errors import BackboneError, RetrainError, first_line
from retrain.graphs.freezing import FrozenGraph

T = TypeVar("T")
Locate = Callable[[BackboneSpec, WeightsRequest], BackboneSource]
Freeze = Callable[[BackboneSource], FrozenGraph]


@dataclass(frozen=True)
class Family:
    """The functions for backbones of one kind.

    `locate` finds the weights, after downloading them where needed; `freeze` makes them a graph, `trainable` a Keras
    network, from the graph that a function gives where they are none. They raise what the functions below say.
    `takes_weights` and `has_nodes` say whether --weights and --input_layer go with them.
    """

    locate: Locate
    freeze: Freeze
    trainable: Callable[[BackboneSource, Freeze], Network]
    takes_weights: bool = False
    has_nodes: bool = False


def _of_keras(locate: Locate, network: Callable[[BackboneSource], Network], *, takes_weights: bool = False) -> Family:
    return Family(
        locate, lambda source: keras_networks.freeze(network(source)), lambda source, _: network(source), takes_weights
    )


def _of_graphs(locate: Locate, freeze: Freeze, *, has_nodes: bool = False) -> Family:
    return Family(locate, freeze, graph_networks.trainable, has_nodes=has_nodes)


FAMILIES = {
    Kind.PACKAGE: _of_keras(efficientnet_lite.locate, efficientnet_lite.network),
    Kind.BUNDLED: _of_keras(keras_networks.locate_bundled, keras_networks.bundled_network, takes_weights=True),
    Kind.KERAS: _of_keras(keras_networks.locate_application, keras_networks.application_network, takes_weights=True),
    Kind.KERAS_FILE: _of_keras(graph_files.locate_file, keras_networks.file_network),
    Kind.ARCHIVE: _of_graphs(graph_files.locate_archive, graph_files.freeze_archive, has_nodes=True),
    Kind.GRAPH_FILE: _of_graphs(graph_files.locate_file, graph_files.freeze_file, has_nodes=True),
    Kind.SAVED_MODEL: _of_graphs(graph_files.locate_file, hub.freeze),
    Kind.HUB: _of_graphs(hub.locate, hub.freeze),
}


def locate(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return the source of a backbone's weights, after downloading what it needs.

    Raises:
        BackboneError: The weights are missing, or do not belong to this backbone.
        DownloadError: They are neither here nor can they be fetched.
    """
    family = FAMILIES[spec.kind]
    if request.weights is not None and not family.takes_weights:
        raise BackboneError(f"--weights goes with keras: architectures and mobilenet_bundled, not {spec.architecture}.")
    if spec.input.node is not None and not family.has_nodes:
        raise BackboneError(f"--input_layer goes with frozen graphs, and {spec.architecture} is none. Leave it out.")
    return family.locate(spec, request)


def freeze(source: BackboneSource) -> FrozenGraph:
    """Return a backbone as a frozen graph.

    Raises:
        RetrainError: It cannot be read, is refused, or does not say what is needed to run it.
    """
    return _guarded(FAMILIES[source.spec.kind].freeze, source)


def trainable_network(source: BackboneSource, freeze: Freeze = freeze) -> Network:
    """Return a backbone as a Keras model up to its bottleneck, whose weights can be trained.

    Args:
        source: Where the backbone is.
        freeze: Gives it as a frozen graph, which is asked of one that is no Keras network.

    Raises:
        RetrainError: It cannot be built or read, or has an operation that cannot be trained.
    """
    return _guarded(lambda source: FAMILIES[source.spec.kind].trainable(source, freeze), source)


def _guarded(function: Callable[[BackboneSource], T], source: BackboneSource) -> T:
    """Return what a function gives for a source; whatever damaged weights lead to is a BackboneError."""
    try:
        return function(source)
    except (RetrainError, MemoryError):
        raise
    except Exception as error:  # TensorFlow and Keras raise anything on damaged files
        problem = f"cannot use the weights {source.weights}: {first_line(error)[:200]}"
        raise BackboneError(f"{problem}. If they were downloaded, delete them and run again.") from error
