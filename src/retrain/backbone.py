"""Finds the backbone that was asked for, and turns it into a frozen graph: images in, bottlenecks out."""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from retrain import architectures, download, freeze, graphs, keras_models, recognition, saved_models
from retrain.architectures import BackboneSpec, Kind
from retrain.errors import BackboneError, DownloadError, RetrainError, first_line
from retrain.files import write_whole

_DESCRIPTION = "backbone.json"
FORMAT = 2  # of the cached backbone and its bottlenecks: raise it when either changes


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a backbone computes, known before TensorFlow is imported.

    `weights` is a path, or for keras.applications also `imagenet` or `random`; `content` identifies them.
    """

    spec: BackboneSpec
    weights: str
    content: str
    seed: int

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with anything that changes a bottleneck."""
        elsewhere = ("location", "url", "sha256", "original_target", "original_dimension")
        row = {name: value for name, value in asdict(self.spec).items() if name not in elsewhere}
        parts = {"format": FORMAT, "spec": row, "content": self.content}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder_name(self) -> str:
        """Return the name of the folder that this backbone's bottlenecks belong into."""
        readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in self.spec.architecture)
        return f"{readable[-60:]}-{self.fingerprint}"


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


def locate(
    spec: BackboneSpec,
    *,
    model_dir: Path,
    weights: str | None = None,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Recipe:
    """Return the recipe of a backbone, after downloading what it needs.

    Args:
        spec: A row, with the user's own sizes and tensors filled in.
        model_dir: Where archives are, or are downloaded to.
        weights: For `keras:` and the bundled backbone: a weights file, or `random` (keras only).
        seed: What random weights are drawn from.
        advance: Told of a download's progress: bytes done, bytes in all.

    Raises:
        BackboneError: Weights that are not there or make no sense for this backbone.
        DownloadError: No archive, and none to be had.
    """
    if weights is not None and spec.kind not in (Kind.BUNDLED, Kind.KERAS):
        raise BackboneError(f"--weights goes with keras: architectures and the bundled one, not {spec.architecture}.")
    frozen_graph = spec.kind is Kind.ARCHIVE or (spec.location or "").endswith(".pb")
    if spec.source is not None and not frozen_graph:
        raise BackboneError(f"--input_layer goes with frozen graphs, and {spec.architecture} is none. Leave it out.")
    if spec.kind is Kind.KERAS:
        return _keras_recipe(spec, weights or keras_models.OFFICIAL, seed)
    if spec.kind is Kind.ARCHIVE and spec.url:
        path = download.fetch(spec.url, model_dir, sha256=spec.sha256, advance=advance)
    elif spec.kind is Kind.BUNDLED:
        path = Path(weights) if weights else Path(str(files("retrain") / "data" / "mobilenet_bundled.npz"))
    elif spec.kind is Kind.HUB:
        path = _resolve_hub(spec.architecture)
    else:
        path = Path(spec.location or "")
    return Recipe(spec, str(path), _content(path), seed)


def load_backbone(recipe: Recipe, folder: Path, *, frozen: Callable[[], freeze.Frozen] | None = None) -> Backbone:
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


def write_backbone(frozen: freeze.Frozen, folder: Path, *, architecture: str, mean: float, std: float) -> Backbone:
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
        write_whole(backbone.graph, frozen.graph_def.SerializeToString(deterministic=True))
        write_whole(folder / _DESCRIPTION, json.dumps(description, indent=1).encode())
    except OSError as error:
        raise BackboneError(f"cannot write to {folder}: {error.strerror}. Give another --bottleneck_dir.") from error
    return backbone


def _keras_recipe(spec: BackboneSpec, weights: str, seed: int) -> Recipe:
    # The same weights give the same features in any release, but official and random ones come with the release.
    release = metadata.version("keras")
    if weights == keras_models.RANDOM:
        return Recipe(spec, weights, f"random {seed} {release}", seed)
    if weights == keras_models.OFFICIAL:
        return Recipe(spec, weights, f"imagenet {release}", seed)
    return Recipe(spec, weights, _content(Path(weights)), seed)


def _resolve_hub(handle: str) -> Path:
    """Return the local folder of a TF-Hub module, downloaded into TF-Hub's own cache if it is a URL."""
    if "://" not in handle:
        return Path(handle)
    import tensorflow_hub as hub

    try:
        return Path(hub.resolve(handle))
    except Exception as error:
        raise DownloadError(
            f"cannot download {handle}: {first_line(error)}. Download and unpack the module yourself and give its "
            f"folder to --tfhub_module, or use --architecture mobilenet_bundled, which needs no download."
        ) from error


def _content(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    try:
        if not path.is_dir():
            return download.sha256_of(path)
        listed = sorted(file for file in path.rglob("*") if file.is_file())
        pairs = [f"{file.relative_to(path).as_posix()} {download.sha256_of(file)}" for file in listed]
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()
    except OSError as error:
        raise BackboneError(
            f"cannot read the weights {path}: {error.strerror}. Check the name and its permissions."
        ) from error


def _read_description(described: Path, folder: Path) -> Backbone | None:
    try:
        fields = json.loads(described.read_text())
        backbone = Backbone(**{**fields, "graph": folder / fields["graph"]})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return backbone if backbone.graph.exists() else None


@dataclass(frozen=True)
class Network:
    """A backbone as a Keras model, which can be trained; `preprocess` comes in front of it."""

    model: Any
    preprocess: Callable[[Any], Any] | None
    spec: BackboneSpec


def check_trainable(spec: BackboneSpec) -> None:
    """Refuse a backbone that is no Keras network.

    Raises:
        BackboneError: Says which are.
    """
    if not _is_keras(spec):
        raise BackboneError(
            f"{spec.architecture} is frozen and cannot be fine-tuned. These can: mobilenet_bundled, keras: "
            f"architectures, and .keras files."
        )


def keras_network(recipe: Recipe) -> Network:
    """Return a backbone as a Keras model up to its bottleneck.

    Raises:
        BackboneError: It is no Keras network, or cannot be built or read.
    """
    check_trainable(recipe.spec)
    spec, path = recipe.spec, Path(recipe.weights)
    size = {"height": spec.height or 0, "width": spec.width or 0}
    if spec.kind is Kind.KERAS:
        name = spec.architecture.removeprefix("keras:")
        model = keras_models.application(name, weights=recipe.weights, seed=recipe.seed, **size)
        return Network(keras_models.cut(model, spec.target), keras_models.preprocessing(name), spec)
    if spec.kind is Kind.BUNDLED:
        return Network(keras_models.cut(keras_models.bundled(path, **size), spec.target), None, spec)
    model = keras_models.from_file(path, height=spec.height, width=spec.width)
    if keras_models.scales_pixels(model):
        spec = replace(spec, **{"mean": 0.0, "std": 1.0, **_given(mean=spec.mean, std=spec.std)})
    return Network(keras_models.cut(model, spec.target), None, spec)


def _is_keras(spec: BackboneSpec) -> bool:
    if spec.kind is Kind.FILE:
        return Path(spec.location or "").suffix in (".keras", ".h5")
    return spec.kind in (Kind.BUNDLED, Kind.KERAS)


def _build(recipe: Recipe) -> tuple[freeze.Frozen, float, float]:
    """Return the frozen graph, and the mean and std of its input."""
    if _is_keras(recipe.spec):
        network = keras_network(recipe)
        return _ranged(freeze.from_keras(network.model, preprocess=network.preprocess), network.spec)
    spec, path = recipe.spec, Path(recipe.weights)
    if spec.kind is Kind.ARCHIVE:
        return _from_graph_def(spec, graphs.parse(_member(path, spec.member or ""), name=str(path)), str(path))
    if path.is_dir():
        output = graphs.source_node(spec.target) if spec.target else None
        frozen = saved_models.load(path, height=spec.height, width=spec.width, output=output)
        convention = architectures.from_hub(spec.architecture)
        return _ranged(frozen, replace(convention, **_given(mean=spec.mean, std=spec.std)))
    return _from_graph_def(spec, graphs.read(path), str(path))


def _from_graph_def(spec: BackboneSpec, graph_def: graphs.GraphDef, name: str) -> tuple[freeze.Frozen, float, float]:
    graphs.check_pure(graph_def, name=name)
    told = recognition.image_input(graph_def)
    source, height, width = spec.source or told.tensor, spec.height or told.height, spec.width or told.width
    target = spec.target or recognition.bottleneck_node(graph_def)
    if source is None:
        raise BackboneError(f"{name} does not tell where its image goes in. Name the node with --input_layer.")
    if target is None:
        raise BackboneError(f"{name} does not tell where its features are. Name the node with --bottleneck_tensor.")
    if not height or not width:
        raise BackboneError(f"{name} does not tell its image size. Give --input_height and --input_width.")
    try:
        frozen = freeze.from_graph_def(graph_def, source=source, target=target, height=height, width=width)
    except RetrainError as error:
        raise BackboneError(f"{name}: {error}") from error
    return _ranged(
        frozen,
        replace(spec, **{**_given(mean=told.mean, std=told.std), **_given(mean=spec.mean, std=spec.std)}),
    )


def _ranged(frozen: freeze.Frozen, spec: BackboneSpec) -> tuple[freeze.Frozen, float, float]:
    if spec.mean is None or spec.std is None:
        raise BackboneError(
            f"{spec.architecture} does not tell the range of its pixels. Give --input_mean and --input_std: "
            f"127.5 and 127.5 for [-1, 1], 0 and 255 for [0, 1], 0 and 1 for 0 to 255."
        )
    return frozen, spec.mean, spec.std


def _given(**values: float | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


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
