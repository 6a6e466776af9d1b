"""Where the weights of a backbone are, and the fingerprint of what they compute; no TensorFlow."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retrain.backbones.catalogue import BackboneSpec
from retrain.errors import BackboneError
from retrain.files import sha256_of

FORMAT = 2  # of the cached backbone and its bottlenecks: raise it when either changes


@dataclass(frozen=True)
class BackboneSource:
    """Everything that decides what a backbone computes, known before TensorFlow is imported.

    `weights` is a path, or for keras.applications also `imagenet` or `random`; `content` identifies them.
    """

    spec: BackboneSpec
    weights: str
    content: str
    seed: int = 0

    @property
    def path(self) -> Path:
        """Return the weights as a path."""
        return Path(self.weights)

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with anything that changes a bottleneck.

        The row is spelt out by hand: its names are a format, and a renamed field must not cost anyone a store. A field
        that is added later enters only where it differs from what was true before.
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
        if not path.is_dir():
            return BackboneSource(spec, str(path), sha256_of(path))
        files = sorted(file for file in path.rglob("*") if file.is_file())
        pairs = [f"{file.relative_to(path).as_posix()} {sha256_of(file)}" for file in files]
        return BackboneSource(spec, str(path), hashlib.sha256("\n".join(pairs).encode()).hexdigest())
    except OSError as error:
        raise BackboneError(
            f"cannot read the weights {path}: {error.strerror}. Check the name and its permissions."
        ) from error
