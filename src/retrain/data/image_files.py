"""Which files are images, and which image files the arguments of a command name."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from retrain import workers
from retrain.errors import DatasetError, UsageError
from retrain.files import open_regular, read_regular
from retrain.storage import access
from retrain.storage.folders import SCHEMES, Folder, RemoteFolder, folder
from retrain.storage.stamps import Stamp

EXTENSIONS = tuple(".jpg .jpeg .png .gif .bmp .webp .tif .tiff .heic .heif .hif .avif".split())
JPEG_MAGIC = b"\xff\xd8\xff"
MAGIC_BYTES = 12
_MAGIC = (JPEG_MAGIC, b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
MAX_PIXELS = 2**30 // 12  # 89 million decoded pixels, Pillow's own limit: beyond it lie mistakes and attacks
IMAGE_BYTES = 2**30  # that one image file may have, which is read into memory whole
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_SHARED_BRANDS = (b"mif1", b"msf1", b"miaf")  # of containers: the brands behind it say what is inside
BRANDS = (*_HEIC_BRANDS, *_AVIF_BRANDS, *_SHARED_BRANDS)
_BRANDS_AT_MOST = 256  # bytes of a list of brands
_OTHER_PHOTOS = tuple(".jxl .jp2 .psd .dng .arw .cr2 .cr3 .nef .nrw .orf .pef .raf .raw .rw2 .srw".split())


def has_image_magic(head: bytes) -> bool:
    """Return whether a file whose first `MAGIC_BYTES` are `head` has a format that retrain reads."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return webp or head.startswith(_MAGIC) or brand_format(head) is not None


def brand_format(data: bytes) -> str | None:
    """Return "HEIC" or "AVIF" for the beginning of such a file, by its brands; else None.

    https://aomediacodec.github.io/av1-avif/#brands and ISO/IEC 23008-12, annex B.
    """
    major = data[8:12] if data[4:8] == b"ftyp" else b""
    if major in _HEIC_BRANDS + _AVIF_BRANDS:
        return "AVIF" if major in _AVIF_BRANDS else "HEIC"
    if major not in _SHARED_BRANDS:
        return None
    listed = data[16 : min(int.from_bytes(data[:4]), _BRANDS_AT_MOST)]
    brands = {listed[start : start + 4] for start in range(0, len(listed), 4)}
    return "AVIF" if brands & set(_AVIF_BRANDS) else "HEIC"


def has_image_name(name: str) -> bool:
    """Return whether a file's name ends like an image's."""
    return name.lower().endswith(EXTENSIONS)


def is_image(path: Folder) -> bool:
    """Return whether a file begins like an image; False if it cannot be read."""
    return has_image_magic(_head(path))


def other_format(head: bytes) -> str | None:
    """Return the name of a photo format that retrain does not read, from a file's first `MAGIC_BYTES`, else None."""
    return "CR3" if head[4:12] == b"ftypcrx " else None


def read_image(path: Folder) -> bytes:
    """Return the content of an image file.

    Raises:
        OSError: It cannot be read, is no regular file, or holds more than `IMAGE_BYTES` or `--max_file_size`.
    """
    if isinstance(path, RemoteFolder):
        return access.of(RemoteFolder(path.root)).read(path.path, IMAGE_BYTES)
    return read_regular(path, IMAGE_BYTES)


def _head(path: Folder) -> bytes:
    try:
        if isinstance(path, RemoteFolder):
            return access.of(RemoteFolder(path.root)).head(path.path, MAGIC_BYTES)
        with open_regular(path) as file:
            return file.read(MAGIC_BYTES)
    except OSError:
        return b""


STANDARD_INPUT = "-"
_LONGEST_NAME = 2**16  # bytes of a name in a list; no system has longer ones
_WEB = re.compile(r"(?:https?|ftp)://", re.IGNORECASE)
_READERS, _WAITING = 16, 1024  # threads that look into remote files, and files that may wait
_URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def expand_paths(words: Sequence[str]) -> list[Folder]:
    """Return the image files that arguments name: a file, a folder's image files at any depth, or a pattern's files.

    Files and folders may be remote; patterns are of this machine.

    A file that does not exist is returned too, and a photo of a format that is not read: reading it says so.

    Raises:
        UsageError: A URL that is not read, or a pattern or folder without images.
        DatasetError: A folder that cannot be read.
        StorageError: A remote folder cannot be read.
    """
    paths: list[Folder] = []
    for word in words:
        path = named(word)
        images: list[Folder]
        if isinstance(path, RemoteFolder):
            images = [image for image, _ in remote_images(path)]
        elif path.exists() or not glob.has_magic(word):
            images = _images_of(path)
        else:
            images = [image for match in sorted(glob.glob(word, recursive=True)) for image in _images_of(Path(match))]
        if not images:
            raise no_images(word)
        paths += images
    return paths


def no_images(word: str) -> UsageError:
    """Return the error of an argument that names no images."""
    return UsageError(f"no image files in {word}. Image files end in {', '.join(EXTENSIONS)}.")


def named(word: str) -> Folder:
    """Return what an argument names, which may be a pattern.

    Raises:
        UsageError: A URL of the web, or one that is not used.
    """
    if _WEB.match(word):
        shown = word if not set("?@") & set(word) else "this"  # which may be a password or a token
        raise UsageError(f"{shown} is a URL, and only files are read. Download it first: curl -O {shown}")
    return folder(word)


def remote_images(path: RemoteFolder) -> Iterator[tuple[RemoteFolder, Stamp | None]]:
    """Yield a remote file, or the images in a remote folder at any depth, sorted; a file that is not there, too.

    They come with their stamps as far as these are known, and while the folder is being listed if it comes sorted.

    Raises:
        DatasetError: A folder that cannot be read.
        StorageError: The storage does not answer.
    """
    try:
        stamp = access.of(RemoteFolder(path.root)).stamp(path.path) if path.path else None
    except (FileNotFoundError, IsADirectoryError):
        stamp = None
    except OSError:  # reading it says so
        yield path, None
        return
    if stamp:
        yield path, stamp
        return
    found = False
    for page in _pages(path):
        found = True
        others = [file for file, _ in page if not has_image_name(file.name)]  # which are to be looked into
        are_photos = workers.map_in_order(lambda: _is_photo, others, threads=_READERS, waiting=_WAITING)
        yield from (each for each in page if has_image_name(each[0].name) or next(are_photos))
    if not found and has_image_name(path.name):
        yield path, None


def _pages(path: RemoteFolder) -> Iterator[list[tuple[RemoteFolder, Stamp]]]:
    """Yield the visible files in a remote folder, sorted; where they come unsorted, all at once."""
    storage = access.of(RemoteFolder(path.root))
    try:
        pages = storage.pages(path.path)
        if not storage.sorted_pages:
            pages = iter([sorted((file for page in pages for file in page), key=lambda file: file.path)])
        for page in pages:
            visible = [file for file in page if is_visible(file.path, path.path)]
            if visible:
                yield [(RemoteFolder(path.root, file.path), file.stamp) for file in visible]
    except FileNotFoundError:
        return
    except OSError as error:
        raise DatasetError(f"cannot read the folder {path}: {error.strerror}. Check its permissions.") from error


def is_visible(path: str, folder: str) -> bool:
    """Return whether nothing is hidden on the way from a remote folder to a file below it, both by their paths."""
    return "/." not in f"/{path}"[len(folder) :]


def _is_photo(file: Folder) -> bool:
    """Return whether a file is an image, or a photo of a format that is not read, which has a reason to be named."""
    if has_image_name(file.name) or file.name.lower().endswith(_OTHER_PHOTOS):
        return True
    head = _head(file)
    return has_image_magic(head) or other_format(head) is not None


def read_paths(names: BinaryIO) -> Iterator[Folder]:
    """Yield the paths in a stream as soon as each arrives: one a line, or one before each NUL (`find -print0`).

    They may be in any encoding; empty ones are skipped.

    Raises:
        UsageError: What comes is no list of paths.
    """
    separator, rest = b"\n", b""
    while block := names.read1(_LONGEST_NAME):  # type: ignore[attr-defined]
        if b"\0" in block:
            separator = b"\0"
        *complete, rest = (rest + block).split(separator)
        if len(rest) > _LONGEST_NAME:
            raise UsageError("standard input holds no list of files. Give it one name a line.")
        yield from _paths(complete, separator)
    yield from _paths([rest], separator)


def _paths(names: Sequence[bytes], separator: bytes) -> Iterator[Folder]:
    for name in names:
        if word := os.fsdecode(name if separator == b"\0" else name.rstrip(b"\r")):
            yield folder(word) if word.partition("://")[0].lower() in SCHEMES else Path(word)


def unreadable_reason(path: Folder, error: OSError) -> str:
    """Return why a file cannot be read, for a message to the user."""
    if isinstance(path, Path) and isinstance(error, FileNotFoundError) and _URL_AS_PATH.match(str(path)):
        return "a URL, and only files are read. Download it first"
    return error.strerror or str(error)


def _images_of(path: Path) -> list[Folder]:
    return list(images_below(path)) if path.is_dir() else [path]


def images_below(top: Path) -> Iterator[Path]:
    """Yield the images in a folder, at any depth, as they are found; DatasetError as for `files_below`."""
    # As in training, the content decides about a file of another name. Photos that are not read are named, each with
    # its reason.
    return filter(_is_photo, (top / name for name in files_below(top)))


def files_below(top: Path, follow: Callable[[str], bool] = lambda link: True) -> Iterator[str]:
    """Yield the paths of all visible files below a folder, relative to it, "/"-separated, sorted within each folder.

    Symbolic links count where `follow` returns True for their path, those that lead back up only once.

    Raises:
        DatasetError: A folder cannot be read.
    """
    visited: set[tuple[int, int]] = set()
    waiting = [("", str(top))]
    while waiting:
        prefix, parent = waiting.pop()
        try:
            status = Path(parent).stat()
            with os.scandir(parent) as listed:
                entries = sorted((e for e in listed if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            raise DatasetError(f"cannot read the folder {parent}: {error.strerror}. Check its permissions.") from error
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        below = []
        for entry in entries:
            if entry.is_symlink() and not follow(entry.path):
                continue
            if _is_folder(entry):
                below.append((f"{prefix}{entry.name}/", entry.path))
            else:
                yield prefix + entry.name
        waiting += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
