"""Backbones as frozen graphs on disk: made once, and found ready by every later run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retrain.backbones import families
from retrain.backbones.sources import BackboneSource
from retrain.errors import BackboneError
from retrain.files import write_atomically
from retrain.graphs.freezing import FrozenGraph
from retrain.preprocessing import InputSpec

_DESCRIPTION = "backbone.json"


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
    """Return the backbone as a frozen graph in `folder`: found there, or made by `build`.

    Raises:
        RetrainError: It cannot be read, is refused, or does not say what is needed to run it.
    """
    return _read(folder) or write_backbone(build(source), folder, architecture=source.spec.architecture)


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
    try:
        # The description comes last: where it is, the graph is whole.
        write_atomically(backbone.graph, frozen.graph_def.SerializeToString(deterministic=True))
        write_atomically(folder / _DESCRIPTION, _to_json(backbone).encode())
    except OSError as error:
        raise BackboneError(f"cannot write to {folder}: {error.strerror}. Give another --bottleneck_dir.") from error
    return backbone


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
    return json.dumps(row, indent=1)


def _read(folder: Path) -> Backbone | None:
    """Return the backbone that an earlier run left in a folder, None where there is none that is whole."""
    try:
        row = json.loads((folder / _DESCRIPTION).read_text())
        spec = InputSpec(*(row[name] for name in ("source", "height", "width", "mean", "std")))
        backbone = Backbone(row["architecture"], folder / row["graph"], spec, row["target"], row["dimension"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return backbone if backbone.graph.exists() else None
