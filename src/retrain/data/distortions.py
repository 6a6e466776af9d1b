"""Distorts training images at random: crop, scale, flip, rotation, shift, shear, zoom and brightness."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from PIL import Image

_GAP = 4  # pixels between images of a contact sheet
_RECIPE = 1  # raise it when the same seed gives other pixels


@dataclass(frozen=True)
class Distortions:
    """How far a training image may be distorted: rotation and shear in degrees, all else in percent of the image.

    Crop, scale, brightness and flip are those of the original `retrain.py`; rotation, shift, shear and zoom those of
    Keras' ImageDataGenerator, which repeats the pixels at the edge where nothing else is left.
    """

    flip_left_right: bool = False
    random_crop: float = 0
    random_scale: float = 0
    random_brightness: float = 0
    random_rotation: float = 0
    random_shift: float = 0
    random_shear: float = 0
    random_zoom: float = 0

    def __bool__(self) -> bool:
        """Return whether any distortion is on."""
        return self != Distortions()

    @property
    def tag(self) -> str:
        """Return 12 hexadecimal digits that change with anything that changes a pixel."""
        row = {"recipe": _RECIPE, **{name: float(value) for name, value in asdict(self).items()}}
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:12]

    def canvas(self, *, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns that an image must be decoded to, for distorted ones of height x width."""
        largest = (1 + self.random_crop / 100) * (1 + self.random_scale / 100)
        return math.ceil(height * largest), math.ceil(width * largest)

    def apply(self, canvas: np.ndarray, *, height: int, width: int, seed: bytes) -> np.ndarray:
        """Return a distorted image, uint8 [height, width, 3]; the same seed gives the same distortion.

        The argument is the whole image, uint8, decoded to the size from `canvas`.
        """
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(seed).digest(), np.uint32))
        image = self._crop(Image.fromarray(canvas), (width, height), rng)
        if self.flip_left_right and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = self._warp(image, rng)
        pixels = np.asarray(image)
        if self.random_brightness:
            factor = np.float32(1 + rng.uniform(-1, 1) * self.random_brightness / 100)
            # The original let values leave the range of a pixel, which no photo ever does.
            pixels = np.clip(np.rint(pixels * factor), 0, 255).astype(np.uint8)
        return pixels

    def _crop(self, image: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
        """Return a random part of the image: the original's margin to crop from, times its random scale."""
        if not self.random_crop and not self.random_scale:
            return image
        share = 1 / ((1 + self.random_crop / 100) * (1 + rng.random() * self.random_scale / 100))
        width, height = image.width * share, image.height * share
        left, top = rng.random() * (image.width - width), rng.random() * (image.height - height)
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        return image.resize(size, Image.Resampling.BILINEAR, box=box)

    def _warp(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the image rotated, shifted, sheared and zoomed about its centre."""
        if not (self.random_rotation or self.random_shift or self.random_shear or self.random_zoom):
            return image
        angle, shear = (math.radians(d * rng.uniform(-1, 1)) for d in (self.random_rotation, self.random_shear))
        shift = rng.uniform(-1, 1, 2) * self.random_shift / 100 * image.size
        zoom = 1 + rng.uniform(-1, 1, 2) * self.random_zoom / 100
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        slant = np.array([[1, math.tan(shear)], [0, 1]])
        matrix = turn @ slant @ np.diag(zoom)  # from a place in the result to a place in the image
        centre = np.array(image.size) / 2
        offset = centre - matrix @ centre + shift
        corners = matrix @ np.array([[0, image.width, 0, image.width], [0, 0, image.height, image.height]])
        low = np.minimum((corners + offset[:, None]).min(axis=1), 0)
        high = np.maximum((corners + offset[:, None]).max(axis=1) - image.size, 0)
        left, top, right, bottom = (int(math.ceil(edge)) + 1 for edge in (*-low, *high))
        padded = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="edge")
        offset = offset + (left, top)
        rows = (matrix[0, 0], matrix[0, 1], offset[0], matrix[1, 0], matrix[1, 1], offset[1])
        return Image.fromarray(padded).transform(
            image.size, Image.Transform.AFFINE, rows, resample=Image.Resampling.BILINEAR
        )


def contact_sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return images of one size side by side with white between them, uint8 [h, w, 3]; short rows end in white."""
    height, width, _ = rows[0][0].shape
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + _GAP), columns * (width + _GAP), 3), 255, np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            y, x = top * (height + _GAP), left * (width + _GAP)
            sheet[y : y + height, x : x + width] = image
    return sheet


NAMES = tuple(field.name for field in fields(Distortions))  # the flags, one each
