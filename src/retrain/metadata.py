"""The metadata in a model file, and the labels file beside it."""

import base64
import codecs
import functools
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from retrain.errors import GraphError
from retrain.files import read_regular, write_result
from retrain.preprocessing import ASPECT_MODES, InputSpec, Scaling

METADATA_NODE = "retrain_metadata"  # the constant node of a graph that holds its metadata
METADATA_NOTE = "RETRAIN_METADATA"  # the same in a LiteRT model and in an ONNX model
METADATA_FILE = "retrain.json"  # the same in a SavedModel's folder and in a .keras file
LABELS_BYTES = 2**26  # that a labels file may have
_SHOWN_AT_MOST = 40  # characters of what is not understood
_KEY_BYTES = 5  # of a photo's hash: one of a million others has the same as one of a million
_PACKED = ("contents", "validated", "tested")  # fields of a split that hold hashes
_GROUPED = ("group_by", "validated", "tested")
_NUMBERED = re.compile(r"(\d+)(?:\s*([:,\t])\s*|\s+)(\S.*)")


@dataclass(frozen=True)
class TrainingSplit:
    """How the photos of a training were split: `validation` and `testing` percent of them were held out.

    `folders` tells that the image folder was a split itself. `contents` are hashes of the photos that were trained on,
    as `with_contents` packs them; `copy` is what was hashed behind a photo's own hash, where distorted copies were.
    `group_by` says by what groups were kept together; `validated` and `tested` are then hashes of the paths of photos
    that were held out, as `with_held_out` packs them.
    """

    validation: float
    testing: float
    folders: bool = False
    contents: str = ""
    copy: str = ""
    group_by: str = ""
    validated: str = ""
    tested: str = ""

    def with_contents(self, keys: Iterable[bytes], copy: str = "") -> "TrainingSplit":
        """Return the split with the photos that were trained on, by the keys of their bottlenecks."""
        return replace(self, contents=_packed(keys), copy=copy)

    def with_held_out(self, validated: Iterable[str], tested: Iterable[str]) -> "TrainingSplit":
        """Return the split with the photos that were held out, by their paths below the image folder."""
        return replace(self, validated=_packed(map(_hashed, validated)), tested=_packed(map(_hashed, tested)))

    def __str__(self) -> str:
        """Return the split in words."""
        if self.folders:
            return "by folders"
        groups = f", grouped by {self.group_by}" if self.group_by else ""
        return f"validation {self.validation:g} % and testing {self.testing:g} %{groups}"

    @property
    def rule(self) -> "TrainingSplit":
        """Return the split without the photos."""
        return replace(self, contents="", copy="", validated="", tested="")

    def trained_on(self, content: bytes) -> bool:
        """Return whether a photo is known to have been trained on, by the SHA-256 of its file."""
        key = hashlib.sha256(content + self.copy.encode()).digest() if self.copy else content
        return key[:_KEY_BYTES] in self._keys["contents"]

    @property
    def knows_held_out(self) -> bool:
        """Return whether it holds which photos were held out."""
        return bool(self.validated or self.tested)

    def held_out(self, path: str) -> str:
        """Return "validation" or "testing" where that is what a photo was held out for, by its path; "" for others."""
        key = _hashed(path)[:_KEY_BYTES] if self.knows_held_out else b""
        return "testing" if key in self._keys["tested"] else "validation" if key in self._keys["validated"] else ""

    @functools.cached_property
    def _keys(self) -> dict[str, frozenset[bytes]]:
        return {name: _unpacked(getattr(self, name)) for name in _PACKED}

    @classmethod
    def from_row(cls, row: Any) -> "TrainingSplit":
        """Return the split in the JSON of metadata; fields that a later version added are passed over.

        Raises:
            ValueError: It holds none.
        """
        row = row if isinstance(row, dict) else {}
        split = cls(*(row.get(field.name, field.default) for field in fields(cls)))
        percentages = all(isinstance(value, int | float) for value in (split.validation, split.testing))
        texts = split.copy, split.group_by, *(getattr(split, name) for name in _PACKED)
        if not percentages or not all(isinstance(text, str) for text in texts):
            raise ValueError("no split in the metadata")
        for name in _PACKED:
            base64.b64decode(getattr(split, name))
        return split


def _hashed(path: str) -> bytes:
    # macOS lists file names decomposed and Linux composed.
    return hashlib.sha256(unicodedata.normalize("NFC", path).encode("utf-8", "surrogateescape")).digest()


def _packed(keys: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(sorted({key[:_KEY_BYTES] for key in keys}))).decode()


def _unpacked(text: str) -> frozenset[bytes]:
    packed = base64.b64decode(text)
    return frozenset(packed[start : start + _KEY_BYTES] for start in range(0, len(packed), _KEY_BYTES))


@dataclass(frozen=True)
class Metadata:
    """The metadata in a model file: labels, input and output, and what trained it; None for what is not known."""

    labels: tuple[str, ...] = ()
    input: InputSpec = InputSpec()
    output: str | None = None
    bottleneck: str | None = None
    architecture: str | None = None
    test_accuracy: float | None = None
    retrain_version: str | None = None
    tensorflow_version: str | None = None
    graph_sha256: str | None = None
    split: TrainingSplit | None = None

    def filled_from(self, other: "Metadata") -> "Metadata":
        """Return these metadata, with the other's value wherever these have none."""
        missing = [field.name for field in fields(self) if getattr(self, field.name) in (None, ())]
        values = {name: getattr(other, name) for name in missing}
        return replace(self, **values, input=self.input.filled_from(other.input))

    def with_io(self, node: str, output: str, *, mean: Scaling | None, std: Scaling | None) -> "Metadata":
        """Return these metadata for another file: it takes `(pixel - mean) / std` at `node`, without a bottleneck."""
        spec = replace(self.input, node=node, mean=mean, std=std)
        return replace(self, input=spec, output=output, bottleneck=None)

    def to_json(self) -> str:
        """Return the fields as one line of JSON, those of the input among them: `input` is its node."""
        row = asdict(self)
        spec = row.pop("input")
        # What was added later stands there only where it says something: other files stay as they were written.
        if self.split is None:
            del row["split"]
        else:
            row["split"] = {name: value for name, value in row["split"].items() if value or name not in _GROUPED}
        if self.input.keep_aspect_ratio is None:
            del spec["keep_aspect_ratio"]
        return json.dumps({**row, "input": spec.pop("node"), **spec}, sort_keys=True)

    def summary(self) -> str:
        """Return one line on what goes in and what comes out; "?" for what is not known."""
        return f"input {self.input}; output {self.output or '?'}, {len(self.labels)} labels"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Metadata":
        """Return what `to_json` wrote; fields that a later version added are passed over.

        Raises:
            ValueError: Not such JSON.
            GraphError: Its photos are prepared in a way that a later version added.
        """
        try:
            content = json.loads(text)
        except RecursionError as error:
            raise ValueError("no metadata of retrain") from error
        labels = content.get("labels") if isinstance(content, dict) else None
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("no metadata of retrain")
        _check_aspect(content)
        rest = (content.get(name) for name in ("height", "width", "mean", "std", "keep_aspect_ratio"))
        spec = InputSpec(content.get("input"), *rest)
        names = {field.name for field in fields(cls)} - {"labels", "input", "split"}
        row = {name: value for name, value in content.items() if name in names}
        for name, value in row.items():
            if value is not None and not isinstance(value, int | float if name == "test_accuracy" else str):
                raise ValueError(f"{name} is {value!r}")
        if content.get("split") is not None:
            row["split"] = TrainingSplit.from_row(content["split"])
        return cls(tuple(labels), spec, **row)


def _check_aspect(content: dict[str, Any]) -> None:
    """Refuse a model for which photos must be prepared in a way that is not known here: its answers would be wrong."""
    kept = content.get("keep_aspect_ratio")
    if kept not in (None, *ASPECT_MODES):
        raise GraphError(
            f"the model says keep_aspect_ratio {repr(kept)[:_SHOWN_AT_MOST]}, and this version of retrain knows "
            f"{' and '.join(ASPECT_MODES)} only. Install the one that wrote it."
        )


def encode_labels(labels: Sequence[str]) -> bytes:
    """Return a labels file: one class name a line, in the order of the class ids; a line break becomes a space."""
    text = "".join(" ".join(label.splitlines() or [label]) + "\n" for label in labels)
    return text.encode("utf-8", "surrogateescape")


def decode_labels(file: bytes, *, own: bool = False) -> tuple[str, ...]:
    """Return the class names in a labels file of anyone, empty lines passed over; spaces at a name's edge are its own.

    The text is UTF-8 or UTF-16. The numbers that other tools write in front ("0 cats", "1:dogs") are left out, unless
    the file is retrain's `own`.

    Raises:
        ValueError: Not such a text.
    """
    if file.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = file.decode("utf-16")
    elif b"\0" in file:
        text = file.decode("utf-16-le" if file[1:2] == b"\0" else "utf-16-be")
    else:
        text = file.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise ValueError("it is no text")
    labels = tuple(line for line in text.splitlines() if line.strip())
    return labels if own else _without_numbers(labels)


def default_labels_path(graph: Path) -> Path:
    """Return where the labels file of a graph is by the codelab's habit: `retrained_labels.txt` beside it."""
    return graph.with_name(graph.name.replace("graph", "labels")).with_suffix(".txt")


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write a labels file, as in `encode_labels`.

    Raises:
        ExportError: The file cannot be written.
    """
    write_result(path, encode_labels(labels))


def read_labels(path: Path, *, own: bool = False) -> tuple[str, ...]:
    """Return the class names in a labels file, as in `decode_labels`.

    Raises:
        GraphError: The file cannot be read.
    """
    try:
        return decode_labels(read_regular(path, LABELS_BYTES), own=own)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is neither UTF-8 nor UTF-16"
        raise GraphError(f"cannot read the labels file {path}: {reason}. Name the right one with --labels.") from error


def find_labels_file(path: Path) -> Path | None:
    """Return the labels file that lies beside a model by its makers' habit, None where there is none.

    The codelab wrote retrained_labels.txt beside retrained_graph.pb; Teachable Machine writes labels.txt.
    """
    return next((file for file in (default_labels_path(path), path.with_name("labels.txt")) if file.is_file()), None)


def _without_numbers(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels without numbers in front, if all are numbered in order, from 0 or 1, with a name behind.

    "0 stars", "1 star", "2 stars" are names that begin with numbers: without them, most would be the same.
    """
    matches = [match for label in labels if (match := _NUMBERED.fullmatch(label.strip()))]
    numbers = [int(match[1]) for match in matches]
    if len(matches) < len(labels) or numbers not in (list(range(len(labels))), list(range(1, len(labels) + 1))):
        return labels
    alike = Counter(match[3].casefold().rstrip("s") for match in matches)
    same = max(alike.values(), default=0)
    if same > 1 and 2 * same > len(labels) and not any(match[2] for match in matches):
        return labels
    return tuple(match[3] for match in matches)
