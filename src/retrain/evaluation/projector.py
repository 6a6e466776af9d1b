"""The points of TensorBoard's projector: which photos, where they are, and the sheet of their pictures."""

from collections.abc import Sequence
from io import BytesIO
from math import ceil, sqrt

import numpy as np
from PIL import Image

MOST_POINTS = 10_000  # which a browser still turns smoothly
DIMENSIONS = 100
SHEET_SIDE = 4096  # pixels at most: the projector takes 8192, and graphics of phones half of that
PICTURE_SIDE = 64  # pixels of a photo in the sheet, at most
_QUALITY = 80  # of the sheet, a JPEG
_GREY = 160  # of photos without a picture
_EXTRA, _PASSES = 10, 3  # columns and passes more than needed, which make the components exact enough


def sample(labels: np.ndarray, *, most: int = MOST_POINTS) -> np.ndarray:
    """Return positions int64 [n] of at most `most` photos, rising: from each stratum its share, and one at least.

    Args:
        labels: The stratum of each photo, int64 [N].
        most: Photos to take.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    strata, counts = np.unique(labels, return_counts=True)
    shares = np.maximum(1, counts * most // len(labels))
    while shares.sum() > most:
        shares[shares.argmax()] -= 1
    chosen = []
    for stratum, count, share in zip(strata.tolist(), counts.tolist(), shares.tolist(), strict=True):
        # Names are in no order of content, so that evenly spaced ones are as good as random ones.
        places = np.arange(share) * count // max(1, share)
        chosen.append(np.flatnonzero(labels == stratum)[places])
    return np.sort(np.concatenate(chosen))


def reduce(vectors: np.ndarray, *, dimensions: int = DIMENSIONS) -> np.ndarray:
    """Return vectors [n, D] in their first principal components, float32 [n, dimensions], or fewer of a smaller matrix.

    By a randomised singular value decomposition, whose random numbers are always the same: Halko, Martinsson and
    Tropp, "Finding structure with randomness", SIAM Review 53, 2011, algorithm 4.4. The sign of a component, which is
    free, makes its largest coordinate positive.
    """
    centred = vectors - vectors.mean(axis=0)
    width = min(dimensions + _EXTRA, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], width), np.float32)
    basis = np.linalg.qr(centred @ start)[0]
    for _ in range(_PASSES):
        basis = np.linalg.qr(centred @ np.linalg.qr(centred.T @ basis)[0])[0]
    left, sizes, _ = np.linalg.svd(basis.T @ centred, full_matrices=False)
    kept = min(dimensions, width)
    points = basis @ left[:, :kept] * sizes[:kept]
    largest = points[np.abs(points).argmax(axis=0), np.arange(kept)]
    turned: np.ndarray = points * np.where(largest < 0, -1, 1)
    return turned.astype(np.float32)


def picture_side(count: int) -> int:
    """Return the side in pixels of each of so many pictures, for which `sheet` has room."""
    return min(PICTURE_SIDE, SHEET_SIDE // _columns(count))


def sheet(pictures: Sequence[Image.Image | None]) -> bytes:
    """Return the JPEG of square pictures side by side, row by row, on a square; None leaves a place grey."""
    side, columns = picture_side(len(pictures)), _columns(len(pictures))
    whole = Image.new("RGB", (side * columns,) * 2, (_GREY,) * 3)
    for number, picture in enumerate(pictures):
        if picture is not None:
            place = (number % columns * side, number // columns * side)
            whole.paste(picture if picture.size == (side, side) else picture.resize((side, side)), place)
    encoded = BytesIO()
    whole.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


def _columns(count: int) -> int:
    return max(1, ceil(sqrt(count)))
