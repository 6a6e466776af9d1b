"""What a model file says of itself, and how pixels and scores follow from it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

METADATA_NODE = "retrain_metadata"  # the constant node of a graph that holds its metadata
METADATA_NOTE = "RETRAIN_METADATA"  # the same in a LiteRT model and in an ONNX model
METADATA_FILE = "retrain.json"  # the same in a SavedModel's folder and in a .keras file
_ROUNDED = 1e-3  # how far from [0, 1] a score may be by rounding


@dataclass(frozen=True)
class Metadata:
    """What a model file says of itself: labels, its input and output, and what trained it.

    The input takes `(pixel - mean) / std` of RGB pixels 0 to 255, [N, height, width, 3]. What is not known of a
    graph from elsewhere is None.
    """

    labels: tuple[str, ...] = ()
    input: str | None = None
    output: str | None = None
    bottleneck: str | None = None
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None
    architecture: str | None = None
    test_accuracy: float | None = None
    retrain_version: str | None = None
    tensorflow_version: str | None = None
    graph_sha256: str | None = None

    def to_json(self) -> str:
        """Return the fields as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def summary(self) -> str:
        """Return one line on what goes in and what comes out; "?" for what is not known."""

        def known(value: object) -> str:
            return "?" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

        return (
            f"input {known(self.input)}, {known(self.width)} x {known(self.height)} px, "
            f"(pixel - {known(self.mean)}) / {known(self.std)}; output {known(self.output)}, {len(self.labels)} labels"
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Return what `to_json` wrote; fields that a later version added are passed over.

        Raises:
            ValueError: Not such JSON.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("labels"), list):
            raise ValueError("no metadata of retrain")
        known = {name: value for name, value in content.items() if name in {field.name for field in fields(cls)}}
        return cls(**{**known, "labels": tuple(known["labels"])})


def labels_file(labels: Sequence[str]) -> bytes:
    """Return a labels file: one class name a line, in the order of the class ids; a line break becomes a space."""
    text = "".join(" ".join(label.splitlines() or [label]) + "\n" for label in labels)
    return text.encode("utf-8", "surrogateescape")


def labels_of(file: bytes) -> tuple[str, ...]:
    """Return the class names in a labels file, empty lines passed over."""
    lines = file.decode("utf-8", "surrogateescape").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True)
class Anatomy:
    """What a model is made of: how many operations or layers of each kind, and how many numbers it has learnt."""

    operations: Counter[str]
    parameters: int


def scaled(pixels: np.ndarray, told: Metadata) -> np.ndarray:
    """Return float32 `(pixel - mean) / std` of pixels uint8."""
    values: np.ndarray = pixels.astype(np.float32) - np.float32(told.mean or 0.0)
    values /= np.float32(told.std or 1.0)
    return values


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the scores float32 [N, C] of any classifier as values in [0, 1].

    What lies in [0, 1] is left as it is: it comes from a softmax, or from one sigmoid for each class. Anything else
    is unnormalised, as a classifier gives it that was trained on logits, and goes through a softmax.
    """
    if scores.size == 0 or (scores.min() >= -_ROUNDED and scores.max() <= 1 + _ROUNDED):
        return scores
    powers: np.ndarray = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
