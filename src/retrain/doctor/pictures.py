"""Small grey pictures of photos, kept beside the store: each photo is read once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from retrain import workers
from retrain.bottlenecks.photos import Photo, read_ahead
from retrain.data import decoding
from retrain.data.properties import GREY
from retrain.doctor.fingerprints import SIDE
from retrain.doctor.photos import Photos
from retrain.errors import ImageError
from retrain.evaluation.kept import Kept

_NAME = "pictures.sqlite"
_MOST_BYTES = 2**30  # of a million photos
_RECIPE = b"picture 1"  # part of the keys by which they are kept: change it when the pixels change
_WAITING = 64
_Wanted = tuple[bytes | None, str]  # the key of a photo in the store, and its path


def of(photos: Photos, numbers: np.ndarray) -> np.ndarray:
    """Return the pictures of photos int64 [n], uint8 [n, 32, 32]; one that is gone, or another now, is black."""
    places = numbers.tolist()
    keys = [key_of(photos.keys[number] or b"") for number in places]
    paths = [photos.dataset.examples[number].path for number in places]

    def drawn(missing: list[int]) -> Iterator[bytes | None]:
        return _drawn(photos, [(photos.keys[places[place]], paths[place]) for place in missing])

    if photos.folder is None:
        made = list(drawn(list(range(len(places)))))
    else:
        kept = kept_in(photos.folder)
        made = kept.through(keys, drawn)
        kept.write()
    pictures = np.zeros((len(places), SIDE, SIDE), np.uint8)
    for place, picture in enumerate(made):
        if picture is not None and len(picture) == SIDE**2:
            pictures[place] = np.frombuffer(picture, np.uint8).reshape(SIDE, SIDE)
    return pictures


def kept_in(folder: Path) -> Kept:
    """Return the pictures that are kept in the folder of a store, by `key_of` the keys of photos."""
    return Kept(folder, _NAME, most_bytes=_MOST_BYTES)


def key_of(photo: bytes) -> bytes:
    """Return the key by which the picture is kept of a photo that has this key in the store."""
    return _RECIPE + photo


def grey(data: bytes) -> np.ndarray:
    """Return an image file as a small grey picture, uint8 [32, 32], squashed.

    Raises:
        ImageError: It cannot be decoded.
    """
    pixels = decoding.decode(data, height=2 * SIDE, width=2 * SIDE).astype(np.float32) @ GREY
    small: np.ndarray = pixels.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3)).round()
    return small.astype(np.uint8)


def _drawn(photos: Photos, wanted: list[_Wanted]) -> Iterator[bytes | None]:
    """Yield the picture of each photo, None of one whose content is not that of its key: it would be kept for that."""

    def draw(job: tuple[_Wanted, Callable[[], Photo]]) -> bytes | None:
        key, photo = job[0][0], job[1]()
        if key is None or photo.reason is not None or photo.content[: len(key)] != key:
            return None
        try:
            return grey(photo.data).tobytes()
        except ImageError:
            return None

    read = read_ahead(photos.dataset.image_dir, ((each, each[1]) for each in wanted))
    return workers.map_in_order(lambda: draw, read, threads=max(1, min(workers.cores(), len(wanted))), waiting=_WAITING)
