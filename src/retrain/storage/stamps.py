"""What identifies an unchanged file without reading it, on a disk and in a listing of a remote folder."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

_NANOSECONDS = 10**9
_ETAGS, _TIMES = ("ETag", "etag"), ("LastModified", "last_modified", "mtime", "updated")  # in protocols' listings


@dataclass(frozen=True, slots=True)
class Stamp:
    """What identifies an unchanged file without reading it: its bytes, and the times of content and inode in ns.

    Of a file in a remote folder, `changed` is a hash of the server's etag, and `modified` 0 where it tells no time.
    """

    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp in the result of a stat call."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @classmethod
    def remote(cls, size: int, modified: datetime | str | None, etag: str) -> Self:
        """Return the stamp of a file in a remote folder.

        Whole seconds: S3 lists fractions of them that it leaves out where it is asked for one file.
        """
        moment = datetime.fromisoformat(modified) if isinstance(modified, str) else modified
        digest = hashlib.sha256(etag.strip('"').encode()).digest()
        return cls(size, int(moment.timestamp()) * _NANOSECONDS if moment else 0, int.from_bytes(digest[:8]) >> 1)

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Self:
        """Return the stamp in what fsspec says about a file."""
        etag = next((str(info[name]) for name in _ETAGS if info.get(name)), "")
        modified = next((info[name] for name in _TIMES if info.get(name)), None)
        return cls.remote(int(info.get("size") or 0), modified, etag)
