"""What an image network takes: `InputSpec`, and the one function that scales pixels for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrain.metadata import Metadata


@dataclass(frozen=True)
class InputSpec:
    """Where a graph takes its image, and in which form.

    `tensor` is a node's name; the graph expects float32 [N, height, width, 3] of `(pixel - mean) / std`, RGB.
    A field that the graph does not tell is None.
    """

    tensor: str | None
    height: int | None = None
    width: int | None = None
    mean: float | None = None
    std: float | None = None


def scale_pixels(pixels: np.ndarray, told: Metadata) -> np.ndarray:
    """Return float32 `(pixel - mean) / std` of pixels uint8."""
    values: np.ndarray = pixels.astype(np.float32) - np.float32(told.mean or 0.0)
    values /= np.float32(told.std or 1.0)
    return values


def without_none(**values: float | None) -> dict[str, Any]:
    """Return the values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}
