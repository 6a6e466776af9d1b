"""Where the weights of a backbone are, and the fingerprint of what they compute; no TensorFlow."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path

from retrain import files
from retrain.backbones import catalogue, download
from retrain.backbones.catalogue import BackboneSpec, Kind
from retrain.errors import BackboneError, DownloadError, first_line

FORMAT = 2  # of the cached backbone and its bottlenecks: raise it when either changes


@dataclass(frozen=True)
class BackboneSource:
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


def locate(
    spec: BackboneSpec,
    *,
    model_dir: Path,
    weights: str | None = None,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> BackboneSource:
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
        return _keras_recipe(spec, weights or catalogue.OFFICIAL, seed)
    if spec.kind is Kind.ARCHIVE and spec.url:
        path = download.fetch(spec.url, model_dir, sha256=spec.sha256, advance=advance)
    elif spec.kind is Kind.BUNDLED:
        path = (
            Path(weights)
            if weights
            else Path(str(resources.files("retrain.backbones") / "weights" / "mobilenet_bundled.npz"))
        )
    elif spec.kind is Kind.HUB:
        path = _resolve_hub(spec.architecture)
    else:
        path = Path(spec.location or "")
    return BackboneSource(spec, str(path), _content(path), seed)


def _keras_recipe(spec: BackboneSpec, weights: str, seed: int) -> BackboneSource:
    # The same weights give the same features in any release, but official and random ones come with the release.
    release = metadata.version("keras")
    if weights == catalogue.RANDOM:
        return BackboneSource(spec, weights, f"random {seed} {release}", seed)
    if weights == catalogue.OFFICIAL:
        return BackboneSource(spec, weights, f"imagenet {release}", seed)
    return BackboneSource(spec, weights, _content(Path(weights)), seed)


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
            return files.sha256_of(path)
        listed = sorted(file for file in path.rglob("*") if file.is_file())
        pairs = [f"{file.relative_to(path).as_posix()} {files.sha256_of(file)}" for file in listed]
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()
    except OSError as error:
        raise BackboneError(
            f"cannot read the weights {path}: {error.strerror}. Check the name and its permissions."
        ) from error
