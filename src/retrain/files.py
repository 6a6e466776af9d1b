"""Reads files of a user's and writes files completely or not at all; their size and hash."""

import errno
import hashlib
import io
import os
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from retrain.errors import ExportError

MODEL_BYTES = 2**32  # of one file of a model or of weights; the largest networks have a little less
_KEPT_NAME = 50  # characters of a name that a draft's begins with: names have limits, and drafts' are longer
_DAY = 86400.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux: https://man7.org/linux/man-pages/man2/rename.2.html


def aside(path: Path) -> Path:
    """Return a name beside `path` for its draft, which no other process on this or another machine writes to."""
    return path.with_name(f".{path.name[:_KEPT_NAME]}.{unique_name()}")


def unique_name() -> str:
    """Return a name that is returned once: the process, its host and 8 random digits, all of them hexadecimal or -."""
    return f"{os.getpid()}-{_host()}-{os.urandom(4).hex()}"


@cache
def _host() -> str:
    """Return 8 digits for what numbers processes: a boot of a machine, or a container on it."""
    names = [platform.node()]
    with suppress(OSError):  # Linux only
        names += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


def remove_stale_drafts(folder: Path, name: str | None = None) -> None:
    """Remove what killed runs left in a folder: drafts older than a day, or of processes of this host that are gone.

    Args:
        folder: A folder, which need not exist.
        name: The name of the file or folder whose drafts they are; all drafts by default.
    """
    # Version 0.1 had the process's number alone, which only a known name makes a draft's.
    wanted, host = (r".+", "") if name is None else (re.escape(name[:_KEPT_NAME]), "?")
    pattern = re.compile(rf"\.{wanted}\.(\d+)(?:-([0-9a-f]{{8}})-[0-9a-f]{{8}}){host}", re.DOTALL)
    with suppress(OSError):  # not to be read: then nobody was to write there either
        for entry in list(os.scandir(folder)):
            match = pattern.fullmatch(entry.name)
            if match and _is_stale(entry, int(match[1]), match[2]):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


def _is_stale(draft: os.DirEntry[str], process: int, host: str | None) -> bool:
    if time.time() - draft.stat(follow_symlinks=False).st_mtime > _DAY:
        return True
    if host not in (None, _host()) or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it is there
        pass
    return False


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: a killed run leaves the old file or the new one, never half of one.

    Raises:
        OSError: The file or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_drafts(path.parent, path.name)
    temporary = aside(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside `path` for drafts, which is removed at the end with what is left in it.

    Raises:
        ExportError: It cannot be made.
    """
    folder = aside(path)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another path or free some space.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(drafts: Sequence[tuple[Path, Path]]) -> None:
    """Give each draft its path, in this order, as one step for other runs; the drafts stay where they are.

    Raises:
        ExportError: A path cannot be written.
    """
    with ExitStack() as opened:
        lock(drafts[-1][1].parent, opened)
        for draft, path in drafts:
            copy = aside(path)
            try:
                try:
                    os.link(draft, copy)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(draft, copy)
                copy.replace(path)
            except OSError as error:
                raise ExportError(f"cannot write {path}: {error.strerror}. Give another path.") from error
            finally:
                copy.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Give two files or folders each other's path in one step; return False where this system cannot."""
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    paths = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0


def lock(path: Path, opened: ExitStack, *, wait: bool = True) -> bool:
    """Hold a file or folder until `opened` is closed or the process ends; return whether no other holds it.

    Where the system or the file system knows no locks, nobody holds anything. `wait` until the other lets go.
    """
    with suppress(ImportError, OSError):
        import fcntl

        descriptor = os.open(path, _OPEN_FLAGS)
        opened.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def check_writable(*paths: Path) -> None:
    """Make the folders of some results and fail now, not after the training, where one cannot be written.

    Raises:
        ExportError: Names the path.
    """
    for path in paths:
        probe = aside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror}. Give another path or fix its permissions."
            ) from error


def write_result(path: Path, data: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        ExportError: It cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}. Give another path or free some space.") from error


def beside(graph: Path, ending: str) -> Path:
    """Return the path of a file that goes with a graph: its name, without `.pb`, and an ending."""
    return graph.with_name(graph.name.removesuffix(".pb") + ending)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; OSError as from `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a model's file, or of the names and contents of all files in a folder.

    Raises:
        OSError: It cannot be read, is no regular file, or has more than `MODEL_BYTES`.
    """
    if not path.is_dir():
        check_file(path, MODEL_BYTES)
        return sha256_of(path)
    pairs = []
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        check_file(file, MODEL_BYTES)
        pairs.append(f"{file.relative_to(path).as_posix()} {sha256_of(file)}")
    return hashlib.sha256("\n".join(pairs).encode("utf-8", "surrogateescape")).hexdigest()


# Opening a named pipe would wait for a writer; on Windows, text mode would change bytes.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Return a regular file opened for reading; a pipe or a device, or a link to one, is never opened.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    check_regular(Path(path).stat(), path)
    file = io.FileIO(os.open(path, _OPEN_FLAGS))
    try:
        check_regular(os.fstat(file.fileno()), path)  # another file may have taken its place
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; of one that grows, what it held when opened.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        return read_opened(file, path, limit)


def read_opened(file: io.FileIO, path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the rest of a file that `open_regular` opened, as `read_regular` does; `path` is for errors."""
    size = check_size(os.fstat(file.fileno()).st_size, path, limit) - file.tell()
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def open_to_update(path: Path) -> io.FileIO:
    """Return a file opened to be read and written anywhere in it, made where there is none."""
    path.touch()
    return path.open("r+b", buffering=0)


def write_at(file: io.FileIO, start: int, data: bytes) -> None:
    """Write all of `data` from a byte of a file on, which `open_to_update` opened."""
    file.seek(start)
    unwritten = memoryview(data)
    while unwritten:  # an unbuffered file may write only a part
        unwritten = unwritten[file.write(unwritten) :]


def check_file(path: str | os.PathLike[str], limit: int) -> None:
    """Refuse a file before a library opens it by its name.

    Raises:
        OSError: It is not there, is no regular file, or has more than `limit` bytes.
    """
    status = Path(path).stat()
    check_regular(status, path)
    check_size(status.st_size, path, limit)


_largest: int | None = None  # bytes


@contextmanager
def reading_bounded(largest: int | None) -> Iterator[None]:
    """Bound what this process reads, as `bound_reading` does, until the block ends."""
    before = _largest
    bound_reading(largest)
    try:
        yield
    finally:
        bound_reading(before)


def bound_reading(largest: int | None) -> None:
    """Let the files that this process reads from now on have `largest` bytes; None: as many as their kind may have."""
    global _largest
    _largest = largest


def reading_bound() -> int | None:
    """Return what `bound_reading` was given last."""
    return _largest


def check_size(size: int, path: str | os.PathLike[str], limit: int) -> int:
    """Return the bytes of a file if it may be read: at most `limit`, or what `bound_reading` was given last.

    Raises:
        OSError: It has more.
    """
    most = limit if _largest is None else _largest
    if size > most:
        problem = f"{size:,} bytes, and at most {most:,} are read: --max_file_size raises that"
        raise OSError(errno.EFBIG, problem, os.fspath(path))
    return size


def check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Refuse what is no regular file.

    Raises:
        OSError: A folder, a pipe, a device or a socket.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
