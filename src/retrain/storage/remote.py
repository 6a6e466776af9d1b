"""A folder at a URL as a storage, by fsspec's file system of its protocol."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from retrain.errors import StorageError
from retrain.files import check_size, unique_name
from retrain.storage import faults
from retrain.storage.faults import Backoff
from retrain.storage.folders import RemoteFolder
from retrain.storage.interface import Entries, Listed
from retrain.storage.listings import Listing
from retrain.storage.opening import CONCURRENT, connection
from retrain.storage.stamps import Stamp

_Result = TypeVar("_Result")
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "BlobAlreadyExists", "412", "409"}


class RemoteStorage:
    """Implements `interface.Storage` for a folder at a URL.

    Paths go to the server as they are: what fsspec would take for a pattern is a name here.
    """

    def __init__(self, folder: RemoteFolder, backoff: Backoff | None = None) -> None:
        self.folder = folder
        self._backoff = backoff or Backoff()
        self._connection = connection(folder)
        self._is_s3 = folder.scheme == "s3"
        self.listings: dict[str, Listing] = {}  # of folders below this one, by their paths

    @property
    def sorted_pages(self) -> bool:
        """Return whether pages come sorted; the directory buckets of S3, which end in `--x-s3`, are not."""
        return self._connection.protocol.sorted_pages and not self.folder.host.endswith("--x-s3")

    def entries(self, below: str = "") -> Entries:
        """Return what lies in a folder itself; empty where S3 has no such folder, for it knows only files."""
        if self._is_s3:
            return self._s3_entries(below)
        return self._entries(self._ls(below))

    def folders(self, below: str = "") -> list[str]:
        """Return the sorted names of the folders in a folder."""
        return self.entries(below).folders

    def pages(self, below: str = "") -> Iterator[list[Listed]]:
        """Yield the files below a folder as the server sends them: a thousand at a time, or folder by folder."""
        if self._is_s3:
            for answer in self._s3_answers(below, delimiter=""):
                yield self._s3_files(answer)
            return
        waiting = [below]
        while waiting:
            parent = waiting.pop()
            entries = self._entries(self._ls(parent))
            yield entries.files
            waiting += [f"{parent}/{name}" if parent else name for name in reversed(entries.folders)]

    def stamp(self, path: str) -> Stamp:
        """Return the stamp of a file."""
        info = self._try(path, lambda system, attempt: system.info(self._key(path)))
        if info["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.folder / path))
        return Stamp.of_info(info)

    def listed_stamp(self, path: str) -> Stamp | None:
        """Return the stamp that the listing of a folder above the file has, None without any."""
        end = path.find("/")
        while end >= 0:
            listing = self.listings.get(path[:end])
            if listing is not None and (stamp := listing.stamp(path)) is not None:
                return stamp
            end = path.find("/", end + 1)
        return None

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return the content of a file, after a look at its size where there is a limit."""
        if limit is not None:
            check_size(self.stamp(path).size, str(self.folder / path), limit)
        content: bytes = self._try(path, lambda system, attempt: system.cat_file(self._key(path)))
        return content

    def head(self, path: str, count: int) -> bytes:
        """Return the first bytes of a file."""

        def first(system: Any, attempt: int) -> bytes:
            if not system.info(self._key(path))["size"]:
                return b""  # of nothing, no range can be asked for
            if self.folder.scheme == "sftp":
                with system.open(self._key(path), "rb") as file:
                    return bytes(file.read(count))
            return bytes(system.cat_file(self._key(path), start=0, end=count))[:count]

        return self._try(path, first)

    def read_many(self, paths: Sequence[str]) -> list[bytes | OSError]:
        """Return the content of each file, many read at once; those that fail for now are read again together."""
        done: dict[int, bytes | OSError] = {}

        def read_rest(system: Any, attempt: int) -> list[bytes | OSError]:
            rest = [number for number in range(len(paths)) if number not in done]
            contents = _gather(system, [self._key(paths[number]) for number in rest])
            failed = None
            for number, content in zip(rest, contents, strict=True):
                if isinstance(content, bytes):
                    done[number] = content
                elif faults.is_transient(content):
                    failed = content
                else:
                    done[number] = self._final(content, paths[number])
            if failed is not None:
                raise failed
            return [done[number] for number in range(len(paths))]

        return self._try("", read_rest)

    def _final(self, error: BaseException, path: str) -> OSError:
        reason = faults.final(error, self.folder / path)
        if isinstance(reason, StorageError):
            raise reason from error
        return reason

    def write(self, path: str, data: bytes) -> None:
        """Write a file; SFTP's by a draft that is renamed, the others' appear completely or not at all anyway."""
        if self.folder.scheme == "sftp":
            self._write_sftp(path, data, exclusive=False)
        else:
            self._try(path, lambda system, attempt: system.pipe_file(self._key(path), data))

    def create(self, path: str, data: bytes) -> bool:
        """Write a file where there is none, by the server's own conditional write, or a rename that yields to a file.

        A request whose answer was lost may have succeeded, and layers below repeat requests, too: so the file that is
        there is ours where it holds `data`, which must not be what anybody else would write.
        """
        if self.folder.scheme == "sftp":
            return self._write_sftp(path, data, exclusive=True)

        def put(system: Any, attempt: int) -> bool:
            try:
                system.pipe_file(self._key(path), data, mode="create")
            except Exception as error:
                if isinstance(error, FileExistsError) or faults.codes(error) & _EXISTS:
                    return False
                raise
            return True

        return self._try(path, put) or self._holds(path, data)

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except FileNotFoundError:  # removed meanwhile
            return False

    def _write_sftp(self, path: str, data: bytes, *, exclusive: bool) -> bool:
        key = self._key(path)
        draft = f"{key.rpartition('/')[0]}/.{key.rpartition('/')[2][:50]}.{unique_name()}"

        def put(system: Any, attempt: int) -> bool:
            system.pipe_file(draft, data)
            try:
                return _rename(system, draft, key, exclusive=exclusive)
            finally:
                if system.exists(draft):
                    system.rm_file(draft)

        return self._try(path, put) or self._holds(path, data)

    def remove(self, path: str) -> None:
        """Remove a file, which need not exist."""
        try:
            self._try(path, lambda system, attempt: system.rm_file(self._key(path)))
        except FileNotFoundError:
            return

    def _try(self, path: str, work: Callable[[Any, int], _Result]) -> _Result:
        """Return what `work` returns for the file system and the number of the attempt, tried again where it helps."""

        def attempted(attempt: int) -> _Result:
            system = self._connection.system
            try:
                return work(system, attempt)
            except Exception as error:
                if self.folder.scheme == "sftp" and faults.is_transient(error):
                    self._connection.renew(system)
                raise

        return faults.retried(attempted, self.folder / path if path else self.folder, self._backoff)

    def _key(self, path: str) -> str:
        """Return what the file system calls a file below the folder, or the folder itself for ""."""
        whole = "/".join(part for part in (self.folder.path, path) if part)
        return f"/{whole}" if self.folder.scheme == "sftp" else f"{self._container}/{whole}"

    @property
    def _container(self) -> str:
        """Return the bucket or container."""
        return self.folder.host.partition("@")[0]

    def _ls(self, below: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._try(
            below, lambda system, attempt: system.ls(self._key(below).rstrip("/") or "/", detail=True)
        )
        return found

    def _entries(self, infos: Sequence[dict[str, Any]]) -> Entries:
        folders, files, start = [], [], len(self._key("").rstrip("/")) + 1
        for info in infos:
            path = info["name"].rstrip("/")[start:]
            if info["type"] == "directory":
                folders.append(path.rpartition("/")[2])
            elif info["type"] == "file":
                files.append(Listed(path, Stamp.of_info(info)))
            else:  # a link, of SFTP, whose target may be gone
                files += self._linked(path)
        return Entries(sorted(folders), sorted(files, key=lambda file: file.path))

    def _linked(self, path: str) -> list[Listed]:
        try:
            return [Listed(path, self.stamp(path))]
        except OSError:
            return []

    def _s3_entries(self, below: str) -> Entries:
        folders: list[str] = []
        files: list[Listed] = []
        for answer in self._s3_answers(below, delimiter="/"):
            folders += [each["Prefix"][:-1].rpartition("/")[2] for each in answer.get("CommonPrefixes", ())]
            files += self._s3_files(answer)
        return Entries(sorted(filter(None, folders)), sorted(files, key=lambda file: file.path))

    def _s3_answers(self, below: str, *, delimiter: str) -> Iterator[dict[str, Any]]:
        """Yield the server's answers to requests for a listing, up to a thousand names each."""
        prefix = "/".join(part for part in (self.folder.path, below) if part)
        request = {"Bucket": self.folder.host, "Prefix": f"{prefix}/" if prefix else "", "Delimiter": delimiter}
        more = True
        while more:
            answer: dict[str, Any] = self._try(
                below, lambda system, attempt: system.call_s3("list_objects_v2", **request)
            )
            yield answer
            more = bool(answer.get("IsTruncated"))
            request["ContinuationToken"] = answer.get("NextContinuationToken", "")

    def _s3_files(self, answer: dict[str, Any]) -> list[Listed]:
        """Return the files in an answer; names that end in a slash only stand for folders."""
        start = len(self.folder.path) + 1 if self.folder.path else 0
        return [
            Listed(each["Key"][start:], Stamp.remote(each["Size"], each["LastModified"], each.get("ETag", "")))
            for each in answer.get("Contents", ())
            if not each["Key"].endswith("/")
        ]


def _gather(system: Any, keys: Sequence[str]) -> list[bytes | BaseException]:
    """Return the contents of files, `CONCURRENT` of them read at once, and exceptions in place of those that fail."""
    # Imported late: it takes longer than all else that a run on this machine imports from this room.
    import asyncio

    from fsspec.asyn import sync

    async def read_all() -> list[bytes | BaseException]:
        room = asyncio.Semaphore(CONCURRENT)

        async def read(key: str) -> bytes:
            async with room:
                return bytes(await system._cat_file(key))

        return await asyncio.gather(*map(read, keys), return_exceptions=True)

    contents: list[bytes | BaseException] = sync(system.loop, read_all)
    return contents


def _rename(system: Any, draft: str, key: str, *, exclusive: bool) -> bool:
    """Give a draft its name over SFTP; return False where that is taken, if it is to be `exclusive`."""
    from fsspec.asyn import sync

    async def rename() -> None:
        async with system._pool.get() as channel:
            await (channel.rename if exclusive else channel.posix_rename)(draft, key)

    try:
        sync(system.loop, rename)
    except Exception:
        if exclusive and system.exists(key):
            return False
        raise
    return True
