"""The files of a shard: a part with its vectors, and a commit that says whose it is and what its bytes must be.

A part is numpy's .npz without pickled objects. A commit is JSON, and is made exclusively and completely: of several
workers that did the same shard, the first one's counts, and what a killed worker left is no commit.
"""

import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from retrain.bottlenecks.store import Entry
from retrain.data.properties import RECORD
from retrain.storage.stamps import Stamp

STAGES = ("reading", "decoding", "computing", "writing")
_KEY_BYTES = 32
_UNKNOWN = bytes(RECORD.itemsize)
_ID, _PART = re.compile(r"[0-9a-f]{32}"), re.compile(r"-[0-9a-f-]+")


@dataclass(frozen=True)
class Commit:
    """What a worker says about a shard: the name of its part and the SHA-256 of it, where the photos are, and facts.

    `variants` counts the results, `rejected` maps photos to the reason why they cannot be used. `seconds` are those of
    each of `STAGES`, over all threads; `took` are those of the worker, and `time` is when it ended, since the epoch.
    """

    id: str
    part: str
    sha256: str
    images: str
    variants: int
    rejected: Mapping[str, str]
    seconds: Mapping[str, float]
    took: float
    node: str
    time: float

    def to_json(self) -> bytes:
        """Return it as a file."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the commit in a file.

        Raises:
            ValueError: It is damaged.
        """
        try:
            row = json.loads(data)
        except RecursionError as error:
            raise ValueError("no commit") from error
        if not isinstance(row, dict) or set(row) != set(cls.__dataclass_fields__):
            raise ValueError("no commit")
        numbers = [row["time"], row["took"], *_values(row["seconds"])]
        texts = [*(row[name] for name in ("id", "part", "sha256", "images", "node")), *_values(row["rejected"])]
        if not all(isinstance(text, str) for text in texts) or not all(map(_is_number, numbers)):
            raise ValueError("no commit")
        if not is_id(row["id"]) or not _PART.fullmatch(row["part"].removeprefix(row["id"])):
            raise ValueError("the name of no part")  # but maybe that of another file, which would be removed
        return cls(**row)


def is_id(name: str) -> bool:
    """Return whether a file may be the commit of a shard, by its name."""
    return _ID.fullmatch(name) is not None


def _values(mapping: Any) -> list[Any]:
    return list(mapping.values()) if isinstance(mapping, dict) else [None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def pack(entries: Sequence[Entry], dimension: int) -> bytes:
    """Return results as a part: each has a vector, float32 [dimension], or a reason."""
    vectors = [entry.vector for entry in entries if entry.vector is not None]
    texts = {
        "names": [entry.name for entry in entries],
        "reasons": {str(i): [e.reason, e.decoder] for i, e in enumerate(entries) if e.vector is None},
    }
    known = b"".join(entry.properties or _UNKNOWN for entry in entries)
    arrays: dict[str, Any] = {
        "vectors": np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, dimension), np.float32),
        "keys": np.frombuffer(b"".join(entry.key.ljust(_KEY_BYTES, b"\0") for entry in entries), np.uint8),
        "stamps": np.array([(e.stamp.size, e.stamp.modified, e.stamp.changed) for e in entries], np.int64),
        "texts": np.frombuffer(json.dumps(texts).encode(), np.uint8),
        "properties": np.frombuffer(known, np.uint8).reshape(-1, len(_UNKNOWN)),
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, dimension: int) -> list[Entry]:
    """Return the results in a part whose checksum is right.

    Raises:
        ValueError: It holds something else, vectors of another dimension say.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            vectors, stamps = arrays["vectors"], arrays["stamps"].tolist()
            keys, texts = arrays["keys"].reshape(-1, _KEY_BYTES), json.loads(arrays["texts"].tobytes())
            names, reasons = texts["names"], texts["reasons"]
            known = _records(arrays, len(names))
        if vectors.dtype != np.float32 or vectors.shape != (len(names) - len(reasons), dimension):
            raise ValueError("vectors of another network")
        rest = iter(vectors)
        return [
            Entry(name, Stamp(*stamp), reason=reason, decoder=decoder)
            if (reason, decoder) != (None, None)
            else Entry(name, Stamp(*stamp), key.tobytes(), next(rest), properties=record)
            for name, stamp, key, record, (reason, decoder) in zip(
                names, stamps, keys, known, (reasons.get(str(i), (None, None)) for i in range(len(names))), strict=True
            )
        ]
    except (KeyError, TypeError, AttributeError, OSError, EOFError, StopIteration, BadZipFile) as error:
        raise ValueError("no part") from error


def _records(arrays: Mapping[str, np.ndarray], count: int) -> list[bytes | None]:
    """Return what a part says of each photo; those of versions that measure nothing, or other things, say nothing."""
    rows = arrays["properties"] if "properties" in arrays else np.zeros((0, 0), np.uint8)
    if rows.dtype != np.uint8 or rows.shape != (count, len(_UNKNOWN)):
        return [None] * count
    records = map(bytes, rows)
    return [None if record == _UNKNOWN else record for record in records]


def part_name(shard_id: str, attempt: int) -> str:
    """Return a name that no other part has."""
    return f"{shard_id}-{attempt}-{os.urandom(6).hex()}"
