"""Whether a small picture shows a part of another, mirrored or not: what tells a copy from a photo that is only alike.

A perceptual hash of the whole picture misses cropped copies. So each picture has one of itself, one of its mirror image
and one of each of many windows in it, of at least three quarters of its sides: a cropped copy matches a window of its
original. Bits are signs of what remains of the picture without its smooth part, as photos of one subject share that.
A match is looked at more closely with normalised cross-correlation (Lewis, Fast Normalized Cross-Correlation, 1995).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.doctor import threads

SIDE = 32  # pixels of a picture, whose aspect ratio is not kept
_CELLS = 8  # of a hash, in each direction
_GRID = 24  # pixels of a side that are compared more closely
_SMOOTH = 1 / 16  # of a side: the deviation of the Gaussian whose part is taken away
_SIZES, _STEP, _SMALLEST = (32, 28, 26, 24), 2, 22  # of windows
_MOVES = (2.0, 1.0, 1.0, 0.5, 0.5)  # pixels, by which a window is moved and resized until it fits better
_TRIED = 5  # windows of a pair, those with the nearest hashes
_BITS_APART = 16  # of 64: half of them, 32, are those of unrelated pictures
_LIKELY, _ALIKE = 0.4, 0.8  # correlations, before and after a window is moved
_MIDDLE = slice(4, 20)  # of the grid
_AT_ONCE = 4096
_FLAT = 1.0  # grey levels: the least deviation by which anything is divided
_NOTHING = 1e-6
_WINDOWS = np.array(
    [
        (size, top, left)
        for size in _SIZES
        for top in range(0, SIDE - size + 1, _STEP)
        for left in range(0, SIDE - size + 1, _STEP)
    ],
    np.float32,
)  # the first is the whole picture


@dataclass(frozen=True)
class Fingerprints:
    """Pictures uint8 [n, 32, 32] and their hashes: `windows` uint64 [n, W], and `mirrored` [n] of the mirror images."""

    pictures: np.ndarray
    windows: np.ndarray
    mirrored: np.ndarray


def of(pictures: np.ndarray) -> Fingerprints:
    """Return the fingerprints of grey pictures, uint8 [n, 32, 32]."""
    windows = np.zeros((len(pictures), len(_WINDOWS)), np.uint64)
    mirrored = np.zeros(len(pictures), np.uint64)

    def measure(start: int) -> None:
        block = slice(start, start + _AT_ONCE)
        windows[block] = _hashes(pictures[block].astype(np.float32))
        mirrored[block] = _hashes(pictures[block, :, ::-1].astype(np.float32), _SIZES[:1])[:, 0]

    threads.run(measure, range(0, len(pictures), _AT_ONCE))
    return Fingerprints(pictures, windows, mirrored)


def copies(prints: Fingerprints, pairs: np.ndarray) -> np.ndarray:
    """Return which pairs int64 [m, 2] of pictures are copies, bool [m]: one shows all or part of the other."""
    found = np.zeros(len(pairs), bool)

    def compare(start: int) -> None:
        block = found[start : start + _AT_ONCE]
        both = pairs[start : start + _AT_ONCE]
        for whole, part in (both.T, both[:, ::-1].T):
            for near, mirrored, window in _windows(prints, whole, part):
                left = ~block[near]  # of pairs that are not known as copies yet
                at = near[left]
                block[at] = _shows(prints, (whole[at], part[at]), mirrored[left], window[left])

    threads.run(compare, range(0, len(pairs), _AT_ONCE))
    return found


def _windows(
    prints: Fingerprints, whole: np.ndarray, part: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield windows in which pictures may show others: first the likeliest of each pair, then the second, and so on.

    Places int64 [n] of pairs, whether the other is mirrored, and windows float32 [n, 3].
    """
    mirrored = np.bitwise_count(prints.windows[whole] ^ prints.mirrored[part, None])
    apart = np.concatenate([np.bitwise_count(prints.windows[whole] ^ prints.windows[part, :1]), mirrored], axis=1)
    for _ in range(_TRIED):
        best = apart.argmin(axis=1)
        near = np.flatnonzero(apart[np.arange(len(best)), best] <= _BITS_APART)
        is_mirrored, number = np.divmod(best[near], len(_WINDOWS))
        yield near, is_mirrored.astype(bool), _WINDOWS[number]
        apart[np.arange(len(best)), best] = _BITS_APART + 1


def _shows(
    prints: Fingerprints, pairs: tuple[np.ndarray, np.ndarray], mirrored: np.ndarray, window: np.ndarray
) -> np.ndarray:
    """Return which of the first pictures show the second ones, or their mirror images, in these windows: bool [n]."""
    whole, part = (prints.pictures[numbers].astype(np.float32) for numbers in pairs)
    part = np.where(mirrored[:, None, None], part[:, :, ::-1], part)
    template = _detail(_sampled(part, np.tile(_WINDOWS[:1], (len(part), 1))))
    shown = _products(template, _detail(_sampled(whole, window))) >= _LIKELY
    shown[shown] = _correlation(template[shown], whole[shown], window[shown]) >= _ALIKE
    return shown


def _correlation(template: np.ndarray, whole: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return how well details [n, 24, 24] match windows [n, 3] in pictures or others close by, float32 [n], up to 1.

    That is the lesser of two: of everything, and of the middle alone, so that two photos in frames are not the same.
    """
    shown = _detail(_sampled(whole, window))
    best = _products(template, shown)
    for step, axis, sign in ((step, axis, sign) for step in _MOVES for axis in (0, 1, 2) for sign in (-1, 1)):
        moved = window.copy()
        moved[:, axis] += sign * step
        moved[:, 0] = np.clip(moved[:, 0], _SMALLEST, SIDE)
        moved[:, 1:] = np.clip(moved[:, 1:], 0, SIDE - moved[:, :1])
        detail = _detail(_sampled(whole, moved))
        score = _products(template, detail)
        better = score > best
        best = np.where(better, score, best)
        window, shown = np.where(better[:, None], moved, window), np.where(better[:, None, None], detail, shown)
    middle = _products(_centred(template[:, _MIDDLE, _MIDDLE]), _centred(shown[:, _MIDDLE, _MIDDLE]))
    lesser: np.ndarray = np.minimum(best, middle)
    return lesser


def _products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    products: np.ndarray = np.einsum("nij,nij->n", one, other)
    return products


def _sampled(pictures: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Return windows [n, 3], size, top and left, of pictures float32 [n, 32, 32] as [n, 24, 24]: bilinear."""
    steps = (np.arange(_GRID, dtype=np.float32) + 0.5) / _GRID
    down = _interpolation(windows[:, 1, None] + steps * windows[:, :1] - 0.5)
    across = _interpolation(windows[:, 2, None] + steps * windows[:, :1] - 0.5)
    sampled: np.ndarray = down @ pictures @ across.transpose(0, 2, 1)
    return sampled


def _interpolation(places: np.ndarray) -> np.ndarray:
    """Return the weights float32 [n, 24, 32] of pixels for places [n, 24] between them."""
    distance = np.abs(np.clip(places, 0, SIDE - 1)[:, :, None] - np.arange(SIDE, dtype=np.float32))
    weights: np.ndarray = np.maximum(0, 1 - distance)
    return weights


def _detail(pictures: np.ndarray) -> np.ndarray:
    """Return pictures [n, s, s] without their smooth part, of mean 0 and length 1; flat ones are shorter."""
    blur = _gaussian(pictures.shape[1])
    detail: np.ndarray = pictures - blur @ pictures @ blur.T
    return _centred(detail, _FLAT * pictures.shape[1])


def _centred(pictures: np.ndarray, least: float = _NOTHING) -> np.ndarray:
    """Return pictures [n, s, s] with mean 0 and length 1, divided by at least so much."""
    centred: np.ndarray = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    centred /= np.maximum(np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True)), least)
    return centred


def _hashes(pictures: np.ndarray, sizes: Sequence[int] = _SIZES) -> np.ndarray:
    """Return the hashes uint64 [n, W] of all windows of some sizes in pictures float32 [n, 32, 32]."""
    count, found = len(pictures), []
    lines = np.ascontiguousarray(pictures.transpose(1, 0, 2)).reshape(-1, SIDE)  # [32 n, 32]
    # Bits are signs of averages of the detail, that is of what is there less what is smooth: both are linear, and apart
    # in the two directions.
    halves = np.empty((2, SIDE, count * _CELLS), np.float32)
    for size in sizes:
        plain, smooth = _averages(size), _averages(size) @ _gaussian(size)
        places = range(0, SIDE - size + 1, _STEP)
        down = np.zeros((len(places), _CELLS, 2, SIDE), np.float32)
        for number, top in enumerate(places):
            down[number, :, 0, top : top + size], down[number, :, 1, top : top + size] = plain, -smooth
        hashes = np.empty((count, len(places), len(places)), np.uint64)
        for number, left in enumerate(places):
            for half, across in zip(halves, (plain, smooth), strict=True):
                np.matmul(lines[:, left : left + size], across.T, out=half.reshape(-1, _CELLS))
            fine = down.reshape(-1, 2 * SIDE) @ halves.reshape(2 * SIDE, -1)
            bits = (fine > 0).reshape(len(places), _CELLS, count, _CELLS).transpose(2, 0, 1, 3)
            hashes[:, :, number] = np.packbits(bits.reshape(count, len(places), -1), axis=2).view(np.uint64)[..., 0]
        found.append(hashes.reshape(count, -1))
    return np.concatenate(found, axis=1)


def _gaussian(size: int) -> np.ndarray:
    """Return the matrix float32 [size, size] that smooths a column, with edges as if there were nothing beyond."""
    places = np.arange(size, dtype=np.float32)
    weights: np.ndarray = np.exp(-0.5 * ((places[:, None] - places) / (_SMOOTH * size)) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _averages(size: int) -> np.ndarray:
    """Return the matrix float32 [8, size] of the averages of eighths of a column."""
    edges = np.arange(_CELLS + 1)[:, None] * size / _CELLS
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    averages: np.ndarray = np.maximum(overlap, 0) * _CELLS / size
    return averages.astype(np.float32)
