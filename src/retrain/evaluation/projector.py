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
_SMALLEST = 1e-10  # of a square, beside the largest: less is rounding


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
    # NumPy cannot stop at some components: of 10,000 photos with 2,048 features, all took four times as long.
    centred = vectors - vectors.mean(axis=0)
    width, kept = min(dimensions + _EXTRA, *centred.shape), min(dimensions, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], width), np.float32)
    basis = _orthonormal(centred @ start)
    for _ in range(_PASSES):
        basis = _orthonormal(centred @ _orthonormal(centred.T @ basis))
    inside = basis.T @ centred
    squares, axes = np.linalg.eigh(inside.astype(np.float64) @ inside.T)
    axes, squares = axes[:, ::-1][:, :kept], squares[::-1][:kept]
    found = basis @ axes.astype(np.float32) * np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    points = np.zeros((len(centred), kept), np.float32)  # of vectors in fewer dimensions, the others stay 0
    points[:, : found.shape[1]] = found
    largest = points[np.abs(points).argmax(axis=0), np.arange(kept)]
    return points * np.where(largest < 0, np.float32(-1), np.float32(1))


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis float32 [n, r] of what r of some columns [n, m] span, from their products alone.

    NumPy's QR decomposition of such matrices waits for its threads a hundred times as long where others compute.
    """
    squares, axes = np.linalg.eigh(columns.T.astype(np.float64) @ columns)
    spanning = squares > squares.max(initial=0) * _SMALLEST
    basis: np.ndarray = columns @ (axes[:, spanning] / np.sqrt(squares[spanning])).astype(np.float32)
    return basis


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
