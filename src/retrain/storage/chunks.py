"""Cuts listings into chunks, and names a chunk by the hash of all that its results follow from.

A listing may be slow to come and have ten million names: it is never held whole. A run that was killed finds what it
has done under the same names.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from retrain.storage.stamps import Stamp

_ID_DIGITS = 32
_Item = TypeVar("_Item")


def chunks(items: Iterable[_Item], count: int) -> Iterator[list[_Item]]:
    """Yield so many consecutive items at a time, as soon as they are there; fewer at the end."""
    rest = iter(items)
    while chunk := list(islice(rest, count)):
        yield chunk


def id_of(settings: object, files: Iterable[tuple[str, Stamp | None]]) -> str:
    """Return 32 hexadecimal digits that stand for some work on some files.

    Args:
        settings: What the results follow from beside the files, as JSON has it.
        files: The name of each file, in their order, and its stamp, None where it is gone.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, stamp in files:
        row = [name, stamp and [stamp.size, stamp.modified, stamp.changed]]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:_ID_DIGITS]
