"""Writes the projector's files, and only those that change: points, pictures and what is said of each photo.

All lie in a folder beside the configuration that TensorBoard reads: `bottlenecks.bytes` float32 [n, d],
`metadata.tsv`, `sprite.jpg`; `pictures.npz`, from which the sprite is made; `key`, which says what the points and the
sprite were made of. The key comes last, so that a run that is killed is made good by the next one.
"""

import hashlib
import io
import itertools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from retrain import workers
from retrain.bottlenecks.photos import reading_threads
from retrain.errors import printable
from retrain.evaluation import projector
from retrain.evaluation.tensorboard import SUFFIX, cannot_write
from retrain.files import lock, read_regular, write_result
from retrain.storage.folders import Folder

CONFIG = "projector_config.pbtxt"  # as TensorBoard calls it
FOLDER = f"projector{SUFFIX}"
PICTURE_SECONDS = 5.0  # for pictures that are missing; a later run makes the next ones
FEWEST_POINTS = 3  # that span something
_OURS = "# Written by retrain, which replaces it.\n"
_COLUMNS = ("class", "split", "result", "predicted", "photo")
_QUALITY = 85
_MOST_BYTES = 2**27  # of a file that is read
_WAITING = 64  # pictures that may wait for an earlier one

Decode = Callable[[str], np.ndarray | None]  # path below the image folder -> uint8 [s, s, 3], None: cannot be read


@dataclass(frozen=True)
class PhotoPoints:
    """The photos that the projector shows, as columns: their paths, classes and splits, and what was predicted.

    `predicted` has the classes of those that were tested, by their paths.
    """

    image_dir: Folder
    paths: Sequence[str]
    classes: Sequence[str]
    splits: Sequence[str]
    predicted: dict[str, str]

    def metadata(self) -> bytes:
        """Return the table that points are coloured and labelled by."""
        rows = [_COLUMNS]
        for path, name, split in zip(self.paths, self.classes, self.splits, strict=True):
            said = self.predicted.get(path)
            result = "not tested" if said is None else ("wrong", "right")[said == name]
            rows.append((name, split, result, said or "", path))
        return "".join("\t".join(map(_shown, row)) + "\n" for row in rows).encode("utf-8", "backslashreplace")

    def files(self) -> list[str]:
        """Return what names the content of each photo's file: path, size and time of change."""
        return [_stamped(self.image_dir, path) for path in self.paths]


def write(
    folder: Path,
    points: PhotoPoints,
    *,
    origin: str,
    vectors: Callable[[], np.ndarray],
    decode: Decode,
    seconds: float = PICTURE_SECONDS,
) -> str | None:
    """Bring the projector of `folder` up to date, and return why it was left alone: None, if it was not.

    Args:
        folder: Of TensorBoard's summaries.
        points: At least `FEWEST_POINTS` photos.
        origin: What computed their bottlenecks.
        vectors: Returns these, float32 [n, D]; called if they may have changed.
        decode: Returns a photo's picture of `projector.PICTURE_SIDE`, on any thread.
        seconds: To spend on missing pictures.

    Raises:
        ExportError: A file cannot be written.
    """
    config, home = folder / CONFIG, folder / FOLDER
    if not _is_ours(config):
        return f"{config} is not retrain's: it stays, and the projector does not show these photos."
    with ExitStack() as opened:
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        lock(home, opened)
        _write_if_new(home / "metadata.tsv", points.metadata())
        names = points.files()
        key = hashlib.sha256("\0".join([origin, *names]).encode("utf-8", "surrogateescape")).hexdigest().encode()
        if _content(home / "key") == key and config.exists():
            return None
        shape = _write_points(home / "bottlenecks.bytes", vectors())
        is_complete = _write_pictures(home, names, points, decode, seconds)
        write_result(config, _configuration(shape).encode())
        _write_if_new(home / "key", key if is_complete else b"")
    return None


def _write_points(path: Path, vectors: np.ndarray) -> tuple[int, int]:
    reduced = projector.reduce(vectors)
    # TensorBoard tries to read text first. Were all zero, they would be: the sign of a zero is no UTF-8.
    write_result(path, np.where(reduced == 0, np.float32(-0.0), reduced).astype("<f4").tobytes())
    return reduced.shape


def _write_pictures(home: Path, names: Sequence[str], points: PhotoPoints, decode: Decode, seconds: float) -> bool:
    """Write the sprite, with the pictures that there are and those that can be made in time; return whether all are."""
    known = _read_pictures(home / "pictures.npz")
    missing = [number for number, name in enumerate(names) if name not in known]
    deadline = time.monotonic() + seconds
    todo = itertools.takewhile(lambda number: time.monotonic() < deadline, missing)
    made = workers.map_in_order(
        lambda: lambda number: (names[number], _encoded(decode(points.paths[number]))),
        todo, threads=reading_threads(points.image_dir), waiting=_WAITING,
    )  # fmt: skip
    known.update(made)
    kept = {name: known[name] for name in names if name in known}
    write_result(home / "pictures.npz", _packed(kept))
    pictures = [Image.open(io.BytesIO(data)) if (data := kept.get(name)) else None for name in names]
    write_result(home / "sprite.jpg", projector.sheet(pictures))
    return len(kept) == len(set(names))


def _encoded(pixels: np.ndarray | None) -> bytes:
    if pixels is None:
        return b""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _packed(pictures: dict[str, bytes]) -> bytes:
    """Return pictures by their names as one file of arrays."""
    names = "\0".join(pictures).encode("utf-8", "surrogateescape")
    ends = np.cumsum([len(data) for data in pictures.values()], dtype=np.int64)
    file = io.BytesIO()
    np.savez(
        file, names=np.frombuffer(names, np.uint8), ends=ends, data=np.frombuffer(b"".join(pictures.values()), np.uint8)
    )
    return file.getvalue()


def _read_pictures(path: Path) -> dict[str, bytes]:
    """Return what `_packed` made; nothing of a file that is missing or damaged."""
    try:
        with np.load(io.BytesIO(read_regular(path, _MOST_BYTES))) as arrays:
            names, ends, data = arrays["names"].tobytes(), arrays["ends"].tolist(), arrays["data"].tobytes()
        parts = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return dict(zip(names.decode("utf-8", "surrogateescape").split("\0"), parts, strict=True))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}


def _configuration(shape: tuple[int, int]) -> str:
    side = projector.picture_side(shape[0])
    return (
        f'{_OURS}embeddings {{\n  tensor_name: "bottlenecks"\n  tensor_path: "{FOLDER}/bottlenecks.bytes"\n'
        f'  tensor_shape: {shape[0]}\n  tensor_shape: {shape[1]}\n  metadata_path: "{FOLDER}/metadata.tsv"\n'
        f'  sprite {{\n    image_path: "{FOLDER}/sprite.jpg"\n    single_image_dim: {side}\n'
        f"    single_image_dim: {side}\n  }}\n}}\n"
    )


def _is_ours(config: Path) -> bool:
    """Return whether a configuration may be replaced: there is none, or we wrote it."""
    return not os.path.lexists(config) or (_content(config) or b"").startswith(_OURS.encode())


def _write_if_new(path: Path, data: bytes) -> None:
    if _content(path) != data:
        write_result(path, data)


def _content(path: Path) -> bytes | None:
    try:
        return read_regular(path, _MOST_BYTES)
    except OSError:
        return None


def _shown(text: str) -> str:
    return text if text.isprintable() else printable(text)  # most are, and there are ten thousands


def _stamped(image_dir: Folder, path: str) -> str:
    try:
        status = os.stat(f"{image_dir}/{path}")  # noqa: PTH116 (ten thousand of them)
    except OSError:
        return f"{path}\t"
    return f"{path}\t{status.st_size}\t{status.st_mtime_ns}"
