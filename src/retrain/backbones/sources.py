"""Where the weights of a backbone are, and the fingerprint of what they compute; no TensorFlow."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.backbones import engines
from retrain.backbones.catalogue import BackboneSpec
from retrain.data import decoding
from retrain.errors import BackboneError
from retrain.files import sha256_of_all
from retrain.preprocessing import InputSpec

FORMAT = 2  # of the cached backbone and its bottlenecks: raise it when either changes
_FIRST_RESIZE_RECIPE = "pillow-draft-bilinear-1"  # of all stores until it entered the fingerprint


@dataclass(frozen=True)
class BackboneSource:
    """Everything that decides what a backbone computes, known before TensorFlow is imported.

    `weights` is a path, or for keras.applications also `imagenet` or `random`; `content` identifies them. `engine` and
    `precision` are those that compute the bottlenecks, `calibration` is the SHA-256 of an int8 model.
    """

    spec: BackboneSpec
    weights: str
    content: str
    seed: int = 0
    engine: str = engines.LITERT
    precision: str = engines.FLOAT32
    calibration: str = ""

    @property
    def path(self) -> Path:
        """Return the weights as a path."""
        return Path(self.weights)

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with anything that changes a bottleneck.

        The row is spelt out by hand: its names are a format, and a renamed field must not cost anyone a store. A field
        that is added later enters only where it differs from what was true before: LiteRT and TensorFlow, which agree
        but for rounding, always shared their stores.
        """
        spec = self.spec
        row = {
            "architecture": spec.architecture,
            "kind": spec.kind.fingerprint,
            "source": spec.input.node,
            "target": spec.target,
            "height": spec.input.height,
            "width": spec.input.width,
            "mean": spec.input.mean,
            "std": spec.input.std,
            "member": spec.member,
        }
        parts = {"format": FORMAT, "spec": row, "content": self.content}
        if decoding.RESIZE_RECIPE != _FIRST_RESIZE_RECIPE:
            parts["resize"] = decoding.RESIZE_RECIPE
        if spec.input.keep_aspect_ratio:
            parts["keep_aspect_ratio"] = spec.input.keep_aspect_ratio
        if self.engine == engines.OPENVINO:
            parts["engine"] = self.engine
        if self.precision != engines.FLOAT32:
            parts["precision"] = self.precision
        if self.calibration:
            parts["calibration"] = self.calibration
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder_name(self) -> str:
        """Return the name of the folder that this backbone's bottlenecks belong into."""
        readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in self.spec.architecture)
        return f"{readable[-60:]}-{self.fingerprint}"


@dataclass(frozen=True)
class WeightsRequest:
    """Where weights may come from: a folder of downloads, a file of the user's own or `random`, and a seed for those.

    `advance` is called with the bytes of a download that are done, and the bytes in all.
    """

    model_dir: Path
    weights: str | None = None
    seed: int = 0
    advance: Callable[[int, int], None] = lambda done, total: None


def from_path(spec: BackboneSpec, path: Path) -> BackboneSource:
    """Return the source of a backbone whose weights are a file or folder.

    Raises:
        BackboneError: They cannot be read.
    """
    try:
        return BackboneSource(spec, str(path), sha256_of_all(path))
    except OSError as error:
        problem = f"cannot read the weights {path}: {error.strerror}"
        raise BackboneError(f"{problem}. Check the name and its permissions.") from error


def image_size(name: str, fixed: Sequence[int | None], spec: InputSpec) -> tuple[int, int]:
    """Return height and width of the images that a network takes: its own, or the user's where it takes any.

    Args:
        name: Of the network, for errors.
        fixed: Height and width that it is made for, None for any.
        spec: What the user says.

    Raises:
        BackboneError: Both say different sizes, or neither says one.
    """
    if any(own and asked and own != asked for own, asked in zip(fixed, spec.size, strict=True)):
        raise BackboneError(f"{name} takes {fixed[1]} x {fixed[0]} px images and no other size.")
    height, width = fixed[0] or spec.height, fixed[1] or spec.width
    if not height or not width:
        raise BackboneError(
            f"{name} takes images of any size. Say which with --input_height and --input_width (224 is common)."
        )
    return height, width
