"""Photos decoded once, in one flat file of a run, so that a training that reads them many times decodes nothing."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain import workers
from retrain.bottlenecks.photos import Photo, read_ahead
from retrain.data import decoding
from retrain.errors import ImageError, StoreError
from retrain.preprocessing import InputSpec
from retrain.storage.folders import Folder

_WAITING = 64  # decoded photos that may wait to be written


@dataclass(frozen=True)
class DecodedPhotos:
    """Pixels of photos, uint8 [N, h, w, 3], in a file mapped into memory, where they stay while there is room."""

    pixels: np.ndarray

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """Return the pixels uint8 [n, h, w, 3] of photos, int64 [n] indices."""
        read = np.empty((len(indices), *self.pixels.shape[1:]), np.uint8)
        for place, index in enumerate(indices.tolist()):
            read[place] = self.pixels[index]
        return read


def decode_all(
    image_dir: Folder,
    paths: Sequence[str],
    spec: InputSpec,
    file: Path,
    *,
    opened: ExitStack,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> DecodedPhotos:
    """Return photos decoded as a network takes them.

    Args:
        image_dir: Where the photos are.
        paths: Of the photos, below that.
        spec: Their size, and what becomes of their aspect ratio.
        file: Where they are written, now.
        opened: Closes the file.
        advance: Called with the photos done and those in all.

    Raises:
        StoreError: A photo cannot be read, or the file cannot be written.
    """
    height, width = spec.size
    read = read_ahead(image_dir, ((path, path) for path in paths))
    photos = workers.map_in_order(
        lambda: lambda job: _decode(*job, spec), read, threads=workers.cores(), waiting=_WAITING
    )
    try:
        # Written, not mapped: a full disk is then an error, and not the end of the process.
        with file.open("wb") as target:
            for done, pixels in enumerate(photos, start=1):
                target.write(np.ascontiguousarray(pixels).data)
                advance(done, len(paths))
    except OSError as error:
        raise StoreError(
            f"cannot write {len(paths) * height * width * 3 / 1e6:,.0f} MB of decoded photos to {file.parent}: "
            f"{error.strerror}. Free some space, or give another --bottleneck_dir."
        ) from error
    if not paths:
        return DecodedPhotos(np.zeros((0, height, width, 3), np.uint8))
    pixels = np.memmap(file, np.uint8, "r", shape=(len(paths), height, width, 3))
    opened.callback(pixels._mmap.close)  # type: ignore[attr-defined]  # it would keep the file from being removed
    return DecodedPhotos(pixels)


def _decode(path: str, read: Callable[[], Photo], spec: InputSpec) -> np.ndarray:
    """Return a photo as a network takes it, uint8 [h, w, 3].

    Raises:
        StoreError: It cannot be read.
    """
    height, width = spec.size
    photo = read()
    try:
        if photo.reason is not None:
            raise ImageError(photo.reason)
        return decoding.decode(photo.data, height=height, width=width, keep_aspect_ratio=spec.keep_aspect_ratio)
    except ImageError as error:
        raise StoreError(f"{path} cannot be read any more: {error}. Run again.") from error
