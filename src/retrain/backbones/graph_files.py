"""Backbones in frozen graph files: the codelab's archives, and any `.pb`."""

import tarfile
import zlib
from pathlib import Path

from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.sources import BackboneSource, WeightsRequest, from_path
from retrain.errors import BackboneError, RetrainError, first_line
from retrain.files import MODEL_BYTES, open_regular
from retrain.graphs import freezing, reading
from retrain.graphs.detection import detect_bottleneck, detect_input
from retrain.graphs.freezing import FrozenGraph
from retrain.graphs.nodes import GraphDef


def locate_archive(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return an archive in the folder of downloads, fetched where it is not there yet."""
    from retrain.backbones import download  # which imports the HTTP client: most runs need none

    path = download.fetch(spec.url or "", request.model_dir, sha256=spec.sha256, advance=request.advance)
    return from_path(spec, path)


def locate_file(spec: BackboneSpec, request: WeightsRequest) -> BackboneSource:
    """Return a file or folder that the user named."""
    return from_path(spec, Path(spec.location or ""))


def freeze_archive(source: BackboneSource) -> FrozenGraph:
    """Return the graph in an archive, up to its bottleneck."""
    data = _member(source.path, source.spec.member or "")
    return _freeze(source, reading.parse_graph(data, name=source.weights))


def freeze_file(source: BackboneSource) -> FrozenGraph:
    """Return the graph in a `.pb` file, up to its bottleneck."""
    return _freeze(source, reading.read_graph(source.path))


def _freeze(source: BackboneSource, graph_def: GraphDef) -> FrozenGraph:
    spec, name = source.spec, source.weights
    reading.check_pure(graph_def, name=name)
    network_input = spec.input.filled_from(detect_input(graph_def))
    target = spec.target or detect_bottleneck(graph_def)
    if network_input.node is None:
        raise BackboneError(f"cannot detect the input node of {name}. Name it with --input_layer.")
    if target is None:
        raise BackboneError(f"cannot detect the features of {name}. Name their node with --bottleneck_tensor.")
    if not all(network_input.size):
        raise BackboneError(f"cannot detect the image size of {name}. Give --input_height and --input_width.")
    try:
        return freezing.from_graph_def(graph_def, network_input, target=target)
    except RetrainError as error:
        raise BackboneError(f"{name}: {error}") from error


def _member(archive: Path, member: str) -> bytes:
    """Return one file of a .tgz, without unpacking the others anywhere."""
    try:
        with open_regular(archive) as file, tarfile.open(fileobj=file, mode="r:gz") as opened:
            for entry in opened:
                is_member = entry.isfile() and entry.name.rsplit("/", 1)[-1] == member  # and no link to nowhere
                content = opened.extractfile(entry) if is_member else None
                if content and entry.size > MODEL_BYTES:
                    raise BackboneError(f"{member} in the archive {archive} is refused: it has {entry.size:,} bytes.")
                if content:
                    return content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        problem = f"the archive {archive} is damaged ({first_line(error)})"
        raise BackboneError(f"{problem}. Delete it and run again.") from error
    raise BackboneError(f"the archive {archive} has no {member} inside. Delete it and run again.")
