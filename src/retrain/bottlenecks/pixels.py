"""Pixels of a photo and of its distorted copies, as a backbone takes them, and what is seen while it is decoded."""

import numpy as np

from retrain.bottlenecks.photos import Photo
from retrain.data import decoding
from retrain.data.variants import Distorter
from retrain.errors import ImageError
from retrain.preprocessing import InputSpec


class PixelMaker:
    """Makes the input of a backbone, uint8 [H, W, 3], for copies of a photo, decoded once for each size."""

    def __init__(self, photo: Photo, spec: InputSpec, distorter: Distorter) -> None:
        """Decode `photo` when asked to.

        Raises:
            ImageError: The photo cannot be read.
        """
        if photo.reason is not None:
            raise ImageError(photo.reason)
        self._photo, self._spec, self._distorter = photo, spec, distorter
        self._described: tuple[np.ndarray, bytes] | None = None
        self._canvas: np.ndarray | None = None

    def __call__(self, copy: str) -> np.ndarray:
        """Return the pixels of a copy, named as in `Variant`.

        Raises:
            ImageError: The photo cannot be decoded.
        """
        if not copy:
            return self.described()[0]
        (height, width), distortions = self._spec.size, self._distorter.distortions
        seed = self._photo.content + self._distorter.identity(copy).encode()
        return distortions.apply(self._decode_canvas(), height=height, width=width, seed=seed)

    def described(self) -> tuple[np.ndarray, bytes]:
        """Return the pixels of the photo itself, and a record of `data.properties.RECORD`.

        Raises:
            ImageError: The photo cannot be decoded.
        """
        if self._described is None:
            height, width = self._spec.size
            self._described = decoding.decode_and_describe(
                self._photo.data, height=height, width=width, keep_aspect_ratio=self._spec.keep_aspect_ratio
            )
        return self._described

    def _decode_canvas(self) -> np.ndarray:
        height, width = self._spec.size
        rows, columns = self._distorter.distortions.canvas(height=height, width=width)
        if (rows, columns) == (height, width):
            return self.described()[0]
        if self._canvas is None:
            self._canvas = decoding.decode(
                self._photo.data, height=rows, width=columns, keep_aspect_ratio=self._spec.keep_aspect_ratio
            )
        return self._canvas
