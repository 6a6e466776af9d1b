"""Thumbnails of photos for a report: small JPEGs, upright, decoded as everywhere else."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from PIL import Image

from retrain import workers
from retrain.bottlenecks.photos import Photo, read_ahead
from retrain.data import decoding
from retrain.errors import ImageError
from retrain.evaluation.kept import Kept, key_of
from retrain.storage.folders import Folder

SIDE = 128  # pixels of the longest side
RECIPE = b"thumbnail 1"  # part of the keys by which they are kept: change it when the pixels change
_QUALITIES, _BYTES = (75, 60, 45, 30), 4096  # the first that makes a picture small enough, or the last
_WAITING = 64


def thumbnails(image_dir: Folder, paths: Sequence[str]) -> Iterator[bytes | None]:
    """Yield a JPEG of each photo, in this order; None for those that cannot be read any more."""

    def draw(job: tuple[str, Callable[[], Photo]]) -> bytes | None:
        photo = job[1]()
        with suppress(ImageError):
            return None if photo.reason is not None else encode(decoding.thumbnail(photo.data, side=SIDE))
        return None

    threads, photos = min(workers.cores(), len(paths)), read_ahead(image_dir, ((path, path) for path in paths))
    return workers.map_in_order(lambda: draw, photos, threads=threads, waiting=_WAITING)


def through(kept: Kept, image_dir: Folder, keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a JPEG of each photo that can be read: kept, or drawn, and then kept from now on.

    `keys` are the store's, which stand for the contents of photos, by their paths.
    """
    paths = list(keys)
    made = kept.through(
        [key_of(RECIPE, key) for key in keys.values()],
        lambda todo: thumbnails(image_dir, [paths[number] for number in todo]),
    )
    return {path: data for path, data in zip(paths, made, strict=True) if data is not None}


def encode(picture: Image.Image) -> bytes:
    """Return a small picture as a JPEG of about `_BYTES` at most."""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _BYTES:
            break
    return buffer.getvalue()
