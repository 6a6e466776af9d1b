"""Turns a located backbone into a frozen graph on disk: images in, bottlenecks out."""

import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from retrain.backbones import catalogue, hub
from retrain.backbones.catalogue import BackboneSpec, Kind
from retrain.backbones.keras_networks import is_keras, keras_network
from retrain.backbones.sources import BackboneSource
from retrain.errors import BackboneError, RetrainError, first_line
from retrain.files import write_atomically
from retrain.graphs import detection, freezing, nodes, reading
from retrain.preprocessing import without_none

_DESCRIPTION = "backbone.json"


@dataclass(frozen=True)
class Backbone:
    """A frozen network on disk: float32 [N, height, width, 3] at `source`, float32 [N, dimension] at `target`.

    The input is `(pixel - mean) / std` of RGB pixels 0 to 255.
    """

    architecture: str
    graph: Path
    source: str
    target: str
    height: int
    width: int
    mean: float
    std: float
    dimension: int


def load_backbone(
    recipe: BackboneSource, folder: Path, *, frozen: Callable[[], freezing.FrozenGraph] | None = None
) -> Backbone:
    """Return the backbone as a frozen graph in `folder`, where a later run finds it ready.

    Args:
        recipe: From `locate`.
        folder: The folder of this backbone's bottlenecks.
        frozen: Gives a part of the Keras network that the recipe means, in place of the whole.

    Raises:
        RetrainError: It cannot be read, is refused, or does not tell what is needed to run it.
    """
    if cached := _read_description(folder / _DESCRIPTION, folder):
        return cached
    built, mean, std = _ranged(frozen(), recipe.spec) if frozen else _build(recipe)
    return write_backbone(built, folder, architecture=recipe.spec.architecture, mean=mean, std=std)


def write_backbone(
    frozen: freezing.FrozenGraph, folder: Path, *, architecture: str, mean: float, std: float
) -> Backbone:
    """Return a frozen graph as a backbone, written to `folder`.

    Raises:
        BackboneError: The folder cannot be written.
    """
    backbone = Backbone(
        architecture=architecture,
        graph=folder / "backbone.pb",
        source=frozen.source,
        target=frozen.target,
        height=frozen.height,
        width=frozen.width,
        mean=mean,
        std=std,
        dimension=frozen.dimension,
    )
    description = {**asdict(backbone), "graph": backbone.graph.name}
    try:
        # The description comes last: where it is, the graph is whole.
        write_atomically(backbone.graph, frozen.graph_def.SerializeToString(deterministic=True))
        write_atomically(folder / _DESCRIPTION, json.dumps(description, indent=1).encode())
    except OSError as error:
        raise BackboneError(f"cannot write to {folder}: {error.strerror}. Give another --bottleneck_dir.") from error
    return backbone


def _read_description(described: Path, folder: Path) -> Backbone | None:
    try:
        fields = json.loads(described.read_text())
        backbone = Backbone(**{**fields, "graph": folder / fields["graph"]})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return backbone if backbone.graph.exists() else None


def _build(recipe: BackboneSource) -> tuple[freezing.FrozenGraph, float, float]:
    """Return the frozen graph, and the mean and std of its input."""
    if is_keras(recipe.spec):
        network = keras_network(recipe)
        return _ranged(freezing.from_keras(network.model, preprocess=network.preprocess), network.spec)
    spec, path = recipe.spec, Path(recipe.weights)
    if spec.kind is Kind.ARCHIVE:
        return _from_graph_def(spec, reading.parse_graph(_member(path, spec.member or ""), name=str(path)), str(path))
    if path.is_dir():
        output = nodes.node_name(spec.target) if spec.target else None
        frozen = hub.load(path, height=spec.height, width=spec.width, output=output)
        convention = catalogue.from_hub(spec.architecture)
        return _ranged(frozen, replace(convention, **without_none(mean=spec.mean, std=spec.std)))
    return _from_graph_def(spec, reading.read_graph(path), str(path))


def _from_graph_def(
    spec: BackboneSpec, graph_def: nodes.GraphDef, name: str
) -> tuple[freezing.FrozenGraph, float, float]:
    reading.check_pure(graph_def, name=name)
    told = detection.detect_input(graph_def)
    source, height, width = spec.source or told.tensor, spec.height or told.height, spec.width or told.width
    target = spec.target or detection.detect_bottleneck(graph_def)
    if source is None:
        raise BackboneError(f"{name} does not tell where its image goes in. Name the node with --input_layer.")
    if target is None:
        raise BackboneError(f"{name} does not tell where its features are. Name the node with --bottleneck_tensor.")
    if not height or not width:
        raise BackboneError(f"{name} does not tell its image size. Give --input_height and --input_width.")
    try:
        frozen = freezing.from_graph_def(graph_def, source=source, target=target, height=height, width=width)
    except RetrainError as error:
        raise BackboneError(f"{name}: {error}") from error
    return _ranged(
        frozen,
        replace(spec, **{**without_none(mean=told.mean, std=told.std), **without_none(mean=spec.mean, std=spec.std)}),
    )


def _ranged(frozen: freezing.FrozenGraph, spec: BackboneSpec) -> tuple[freezing.FrozenGraph, float, float]:
    if spec.mean is None or spec.std is None:
        raise BackboneError(
            f"{spec.architecture} does not tell the range of its pixels. Give --input_mean and --input_std: "
            f"127.5 and 127.5 for [-1, 1], 0 and 255 for [0, 1], 0 and 1 for 0 to 255."
        )
    return frozen, spec.mean, spec.std


def _member(archive: Path, member: str) -> bytes:
    """Return one file of a .tgz, without unpacking the others anywhere."""
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for entry in opened:
                content = opened.extractfile(entry) if entry.name.rsplit("/", 1)[-1] == member else None
                if content:
                    return content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BackboneError(
            f"the archive {archive} is damaged ({first_line(error)}). Delete it and run again."
        ) from error
    raise BackboneError(f"the archive {archive} has no {member} inside. Delete it and run again.")
