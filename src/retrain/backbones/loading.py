"""Backbones as frozen graphs on disk: made once, and found ready by every later run."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retrain.backbones import families
from retrain.backbones.sources import BackboneSource
from retrain.errors import BackboneError, GraphError
from retrain.files import MODEL_BYTES, read_regular, sha256_of, write_atomically
from retrain.graphs.editing import strip_defaults
from retrain.graphs.freezing import FrozenGraph
from retrain.graphs.reading import parse_graph, read_graph
from retrain.preprocessing import InputSpec

LITERT_MODEL = "backbone.tflite"  # beside the graph
_DESCRIPTION = "backbone.json"
_TEXT_BYTES = 2**20  # that the description or a checksum may have
_VERIFIED = "backbone.verified"
_STRIPPED = "backbone.stripped"  # the checksum of a graph in which `_strip` has nothing left to do


@dataclass(frozen=True)
class Backbone:
    """A frozen network in the file `graph`: takes what `input` says, gives float32 [N, dimension] at node `target`."""

    architecture: str
    graph: Path
    input: InputSpec
    target: str
    dimension: int


def load_backbone(
    source: BackboneSource, folder: Path, *, build: Callable[[BackboneSource], FrozenGraph] = families.freeze
) -> Backbone:
    """Return the backbone as a frozen graph in `folder`: found there undamaged, or made by `build`.

    Raises:
        RetrainError: It cannot be read, is refused, or does not say what is needed to run it.
    """
    found = _read(folder)
    if found is None:
        found = write_backbone(build(source), folder, architecture=source.spec.architecture)
    if not (folder / _VERIFIED).exists() and not _is_stripped(found.graph) and os.access(folder, os.W_OK):
        _strip(found.graph)
    return found


def frozen_graph(backbone: Backbone) -> FrozenGraph:
    """Return a backbone as it was frozen, from its file.

    Raises:
        GraphError: The file is gone or damaged.
    """
    return FrozenGraph(read_graph(backbone.graph), backbone.input, backbone.target, backbone.dimension)


def known_graph(source: BackboneSource, folder: Path) -> FrozenGraph:
    """Return a backbone as a frozen graph: the one in `folder`, or else a new one, which is written nowhere.

    Raises:
        RetrainError: As for `families.freeze`.
    """
    found = _read(folder)
    return families.freeze(source) if found is None else frozen_graph(found)


def is_verified(backbone: Backbone) -> bool:
    """Return whether a graph, and the LiteRT model beside it, are those that `mark_verified` has seen."""
    try:
        return read_regular(backbone.graph.with_name(_VERIFIED), _TEXT_BYTES) == _checksums(backbone)
    except OSError:
        return False


def mark_verified(backbone: Backbone) -> None:
    """Record that a graph gives in TensorFlow what the bottlenecks were computed with, so that no later run asks again.

    The record is a list for `sha256sum --check`; it stands for these very bytes and no others.
    """
    with suppress(OSError):  # a disk that may only be read: the next run asks again
        write_atomically(backbone.graph.with_name(_VERIFIED), _checksums(backbone))


def checksum_of(path: Path) -> str:
    """Return the SHA-256 that was written with a part of a backbone, which `is_whole` compares, or else that it has."""
    written = _checksum_path(path)
    return read_regular(written, _TEXT_BYTES).decode().split()[0] if written.exists() else sha256_of(path)


def _checksums(backbone: Backbone) -> bytes:
    """Return the checksums of what is there of a backbone."""
    paths = [path for path in (backbone.graph, backbone.graph.with_name(LITERT_MODEL)) if path.exists()]
    return b"".join(read_regular(_checksum_path(path), _TEXT_BYTES) for path in paths)


def _strip(graph: Path) -> None:
    """Leave attributes with default values out of a graph that an earlier version kept, which did so at each export."""
    with suppress(GraphError):  # whatever it is, who reads it says so
        data = read_regular(graph, MODEL_BYTES)
        stripped = strip_defaults(parse_graph(data, name=str(graph))).SerializeToString(deterministic=True)
        if stripped != data:
            write_with_checksum(graph, stripped)
        with suppress(OSError):  # a full disk: the next run does it again
            write_atomically(graph.with_name(_STRIPPED), read_regular(_checksum_path(graph), _TEXT_BYTES))


def _is_stripped(graph: Path) -> bool:
    """Return whether a graph is one that `_strip` has seen, which imports TensorFlow."""
    try:
        return read_regular(graph.with_name(_STRIPPED), _TEXT_BYTES) == read_regular(_checksum_path(graph), _TEXT_BYTES)
    except OSError:
        return False


def write_backbone(frozen: FrozenGraph, folder: Path, *, architecture: str) -> Backbone:
    """Return a frozen graph as a backbone, written to `folder`.

    Raises:
        BackboneError: The range of its pixels is not known, or the folder cannot be written.
    """
    if frozen.input.mean is None or frozen.input.std is None:
        raise BackboneError(
            f"cannot detect the range of the pixels that {architecture} takes. Give --input_mean and --input_std: "
            f"127.5 and 127.5 for [-1, 1], 0 and 255 for [0, 1], 0 and 1 for 0 to 255."
        )
    backbone = Backbone(architecture, folder / "backbone.pb", frozen.input, frozen.target, frozen.dimension)
    # The description comes last: where it is, the graph is whole.
    write_with_checksum(backbone.graph, frozen.graph_def.SerializeToString(deterministic=True))
    write_with_checksum(folder / _DESCRIPTION, _to_json(backbone).encode())
    return backbone


def write_with_checksum(path: Path, data: bytes) -> None:
    """Write a part of a backbone, and its SHA-256 beside it.

    Raises:
        BackboneError: The disk is full, or the folder cannot be written.
    """
    try:
        # Of a run that is killed between the two, there is no file that would be taken for whole.
        _write_checksum(path, hashlib.sha256(data).hexdigest())
        write_atomically(path, data)
    except OSError as error:
        raise BackboneError(
            f"cannot write to {path.parent}: {error.strerror}. Free some space, or give another --bottleneck_dir."
        ) from error


def is_whole(path: Path) -> bool:
    """Return whether a part of a backbone is there, and is what was written.

    Earlier versions wrote no checksum: it is added.
    """
    try:
        found = sha256_of(path)
        written = read_regular(_checksum_path(path), _TEXT_BYTES) if _checksum_path(path).exists() else None
    except OSError:
        return False
    if written is None:
        with suppress(OSError):  # a disk that may only be read
            _write_checksum(path, found)
    return written is None or written.split()[:1] == [found.encode()]


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_checksum(path: Path, checksum: str) -> None:
    """Write a checksum as `sha256sum --check` reads it."""
    write_atomically(_checksum_path(path), f"{checksum}  {path.name}\n".encode())


def _to_json(backbone: Backbone) -> str:
    spec = backbone.input
    row = {
        "architecture": backbone.architecture,
        "graph": backbone.graph.name,
        "source": spec.node,
        "target": backbone.target,
        "height": spec.height,
        "width": spec.width,
        "mean": spec.mean,
        "std": spec.std,
        "dimension": backbone.dimension,
    }
    if spec.keep_aspect_ratio:
        row["keep_aspect_ratio"] = spec.keep_aspect_ratio
    return json.dumps(row, indent=1)


def _read(folder: Path) -> Backbone | None:
    """Return the backbone that an earlier run left in a folder, None where there is none that is whole."""
    if not is_whole(folder / _DESCRIPTION):
        return None
    try:
        row = {"keep_aspect_ratio": None, **json.loads(read_regular(folder / _DESCRIPTION, _TEXT_BYTES))}
        names = ("source", "height", "width", "mean", "std", "keep_aspect_ratio")
        spec = InputSpec(*(row[name] for name in names))
        backbone = Backbone(row["architecture"], folder / row["graph"], spec, row["target"], row["dimension"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return backbone if is_whole(backbone.graph) else None
