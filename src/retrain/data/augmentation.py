"""Augments training images as they are read: drawn in numpy from a seed and a step, applied in TensorFlow to a batch.

The geometry of an image is one affine map, so that a photo is resampled once. The meaning of the flags is that of
`distortions`, which works photo by photo and ahead of the training.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.data.distortions import Distortions

# Of a photo that is cut to a part, so much more than the network's size is kept, for the part to show detail.
_LARGEST_CANVAS = 8 / 7


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may be changed; `contrast` in percent, the rest as in `Distortions`."""

    distortions: Distortions
    contrast: float = 0.0

    @property
    def tag(self) -> str:
        """Return what changes with anything that changes a pixel."""
        return f"{self.distortions.tag} contrast {self.contrast:g}"

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns that photos must be decoded to, for a network that takes rows x columns."""
        height, width = size
        canvas = self.distortions.canvas(height=height, width=width)
        return min(canvas[0], math.ceil(height * _LARGEST_CANVAS)), min(canvas[1], math.ceil(width * _LARGEST_CANVAS))

    def draw(self, rng: np.random.Generator, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return how to change each of a number of images: maps float32 [count, 8] and tones float32 [count, 2].

        A map goes from places in the result to places in the canvas, as ImageProjectiveTransformV3 takes it; tones are
        factors of brightness and of contrast.

        Args:
            rng: What to draw from.
            count: How many images.
            size: Rows and columns of the network's images.
        """
        maps = self._maps(rng, count, np.array(self.canvas(size), float), np.array(size, float))
        spread = np.array([self.distortions.random_brightness, self.contrast]) / 100
        tones = 1 + rng.uniform(-1, 1, (count, 2)) * spread
        return maps.astype(np.float32), tones.astype(np.float32)

    def _maps(self, rng: np.random.Generator, count: int, canvas: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Return the maps float64 [count, 8], drawn in the order in which `Distortions.apply` works."""
        given = self.distortions
        share = 1 / ((1 + given.random_crop / 100) * (1 + rng.random(count) * given.random_scale / 100))
        corner = rng.random((count, 2)) * (1 - share)[:, None] * canvas
        mirrored = (rng.random(count) < 0.5) & given.flip_left_right
        angle, shear = (
            np.radians(most) * rng.uniform(-1, 1, count) for most in (given.random_rotation, given.random_shear)
        )
        shift = rng.uniform(-1, 1, (count, 2)) * given.random_shift / 100 * size
        zoom = 1 + rng.uniform(-1, 1, (count, 2)) * given.random_zoom / 100
        # In rows (0) and columns (1), about the centre of the result.
        warp = np.empty((count, 2, 2))
        cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(shear)
        warp[:, 1, 1], warp[:, 1, 0] = cos, cos * tan - sin
        warp[:, 0, 1], warp[:, 0, 0] = sin, sin * tan + cos
        warp *= zoom[:, None, :]
        centre = size / 2
        offset = centre - warp @ centre + shift
        # From the result's size to the part of the canvas, mirrored or not.
        scale = share[:, None] * canvas / size
        start = corner.copy()
        start[mirrored, 1] += share[mirrored] * canvas[1]
        scale[mirrored, 1] *= -1
        warp, offset = warp * scale[:, :, None], offset * scale + start
        # Places are those of the centres of pixels, which lie half a pixel from their edges.
        offset += warp.sum(axis=2) / 2 - 0.5
        zeros = np.zeros(count)
        rows = (warp[:, 1, 1], warp[:, 1, 0], offset[:, 1], warp[:, 0, 1], warp[:, 0, 0], offset[:, 0], zeros, zeros)
        return np.stack(rows, axis=1)


# What suits most photos: another part of it, mirrored, in another light.
USUAL = Augmentation(Distortions(flip_left_right=True, random_scale=30, random_brightness=15), contrast=15)


def in_graph(pixels: Any, maps: Any, tones: Any, *, size: tuple[int, int]) -> Any:
    """Return augmented images, float32 [N, rows, columns, 3], values 0 to 255.

    Args:
        pixels: uint8 [N, h, w, 3], photos decoded to `Augmentation.canvas`.
        maps: float32 [N, 8], from `Augmentation.draw`.
        tones: float32 [N, 2], likewise.
        size: Rows and columns.
    """
    import tensorflow as tf

    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(pixels, tf.float32),
        transforms=maps,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    brightness, contrast = (tones[:, number, None, None, None] for number in (0, 1))
    return tf.clip_by_value(images * contrast + mean * (brightness - contrast), 0.0, 255.0)
