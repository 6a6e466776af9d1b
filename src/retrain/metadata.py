"""What a model file says of itself, and the labels file beside it."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from retrain.errors import GraphError
from retrain.files import write_result

METADATA_NODE = "retrain_metadata"  # the constant node of a graph that holds its metadata
METADATA_NOTE = "RETRAIN_METADATA"  # the same in a LiteRT model and in an ONNX model
METADATA_FILE = "retrain.json"  # the same in a SavedModel's folder and in a .keras file


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


def encode_labels(labels: Sequence[str]) -> bytes:
    """Return a labels file: one class name a line, in the order of the class ids; a line break becomes a space."""
    text = "".join(" ".join(label.splitlines() or [label]) + "\n" for label in labels)
    return text.encode("utf-8", "surrogateescape")


def decode_labels(file: bytes) -> tuple[str, ...]:
    """Return the class names in a labels file, empty lines passed over."""
    lines = file.decode("utf-8", "surrogateescape").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def default_labels_path(graph: Path) -> Path:
    """Return where the labels file of a graph is by the codelab's habit: `retrained_labels.txt` beside it."""
    return graph.with_name(graph.name.replace("graph", "labels")).with_suffix(".txt")


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write one class name a line, in the order of the class ids; a line break in a name becomes a space.

    Raises:
        ExportError: The file cannot be written.
    """
    write_result(path, encode_labels(labels))


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the class names of a labels file, one a line.

    Raises:
        GraphError: The file cannot be read.
    """
    try:
        return decode_labels(path.read_bytes())
    except OSError as error:
        raise GraphError(
            f"cannot read the labels file {path}: {error.strerror}. Name the right one with --labels."
        ) from error


_NUMBERED = re.compile(r"(\d+)[ :]+(\S.*)")


def find_labels_file(path: Path) -> Path | None:
    """Return the labels file that lies beside a model by its makers' habit, None where there is none.

    The codelab wrote retrained_labels.txt beside retrained_graph.pb; Teachable Machine writes labels.txt.
    """
    return next((file for file in (default_labels_path(path), path.with_name("labels.txt")) if file.is_file()), None)


def without_numbers(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels without the numbers that Teachable Machine writes in front: "0 cats", "1 dogs"."""
    found = [_NUMBERED.fullmatch(label) for label in labels]
    if any(match is None or int(match[1]) != number for number, match in enumerate(found)):
        return labels
    return tuple(match[2] for match in found if match)
