"""What a photo's file and pixels say without a network: size, format, camera, time, brightness, sharpness, border.

They are measured where a photo is decoded anyway, on the picture that the network sees, before bars are added to it, in
about a hundredth of what decoding and running it take.
"""

import calendar
import re
import struct
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import ExifTags, Image

SIDE = 16  # of the small grey picture
# Of one photo. `width` and `height` are those of the upright photo, and 0 where nothing is known of it; `bytes` are
# those of its file, `taken` the seconds of its camera's clock since 1970, -1 where it does not say. The rest is in
# levels of 0 to 255: means, standard deviations, the darkest and the brightest twentieth of the picture; `slope` and
# `detail` are the root mean squares of first and second differences between neighbouring pixels; `border` is the mean
# of the outermost sixteenth at each side, `grey` the whole picture.
DTYPE = np.dtype(
    [
        ("width", "<u4"), ("height", "<u4"), ("bytes", "<u4"), ("taken", "<i8"), ("format", "S8"), ("camera", "S40"),
        ("brightness", "<f4"), ("contrast", "<f4"), ("dark_end", "<f4"), ("bright_end", "<f4"), ("slope", "<f4"),
        ("detail", "<f4"), ("colour", "<f4", 3), ("border", "<f4", 3), ("border_contrast", "<f4"),
        ("grey", "u1", (SIDE, SIDE)),
    ]
)  # fmt: skip
_RECORD = struct.Struct(f"<IIIq8s40s13f{SIDE * SIDE}s")
_LINES = 8  # of so many rows and columns of the picture, one is looked at for differences
_END = SIDE * SIDE // 20  # pixels of the small picture are its darkest and its brightest end
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_SHARES = np.ones((2, SIDE, SIDE), np.float32)  # of the pixels of the small picture in means of all, and of its border
_SHARES[1, 1:-1, 1:-1] = 0
_SHARES = _SHARES.reshape(2, -1) / _SHARES.sum(axis=(1, 2))[:, None]
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's


def record_of(
    picture: Image.Image, pixels: np.ndarray, source: Image.Image, *, size: tuple[int, int], length: int
) -> bytes:
    """Return what is known of a photo, as one record of `DTYPE`.

    Args:
        picture: The upright RGB picture that a network sees, without bars.
        pixels: The same, uint8 [h, w, 3].
        source: The opened file, which knows its format and EXIF data.
        size: Width and height of the upright photo.
        length: Of the file, in bytes.
    """
    camera, taken = _exif(source)
    small = np.asarray(_small(picture), np.float32).reshape(-1, 3)
    grey = small @ _GREY
    means, border = _SHARES @ small  # products take a third of the time of means
    (brightness, ring), squares = _SHARES @ grey, _SHARES @ (grey * grey)
    ordered = np.sort(grey)
    slope, detail = _differences(pixels[:, :, 1])
    return _RECORD.pack(
        *size, length, taken, (source.format or "").encode()[:8], camera,
        brightness, max(0.0, squares[0] - brightness * brightness) ** 0.5, ordered[:_END].sum() / _END,
        ordered[-_END:].sum() / _END, slope, detail, *means.tolist(), *border.tolist(),
        max(0.0, squares[1] - ring * ring) ** 0.5, grey.astype(np.uint8).tobytes(),
    )  # fmt: skip


def _small(picture: Image.Image) -> Image.Image:
    """Return an RGB picture of `SIDE` x `SIDE`, each pixel the mean of what it covers, nearly."""
    factors = max(1, picture.width // SIDE), max(1, picture.height // SIDE)
    small = picture.reduce(factors)  # at half the cost of resizing all of it
    return small if small.size == (SIDE, SIDE) else small.resize((SIDE, SIDE), Image.Resampling.BOX)


def _differences(levels: np.ndarray) -> tuple[float, float]:
    """Return the root mean squares of first and second differences, along some rows and columns of uint8 [h, w]."""
    sums, counts = [0.0, 0.0], [0, 0]
    for lines in (levels[::_LINES], levels[:, ::_LINES].T):
        values = lines.astype(np.float32)
        for order in (0, 1):
            values = values[:, 1:] - values[:, :-1]
            flat = values.ravel()
            sums[order] += float(flat @ flat)
            counts[order] += flat.size
    slope, detail = ((total / max(1, count)) ** 0.5 for total, count in zip(sums, counts, strict=True))
    return slope, detail


def _exif(source: Image.Image) -> tuple[bytes, int]:
    """Return camera and time in the EXIF data of an opened file: b"" and -1 where it has none, or damaged ones."""
    with suppress(Exception):  # Pillow raises anything; a photo that can be decoded is not lost for its EXIF data
        exif = source.getexif()
        if exif:
            names = [_text(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
            if names[1].lower().startswith(names[0].lower()):
                names = names[1:]
            inner = exif.get_ifd(ExifTags.IFD.Exif)
            taken = inner.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
            return " ".join(filter(None, names)).encode("ascii", "replace")[:40], _seconds(_text(taken))
    return b"", -1


def _text(value: Any) -> str:
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""


def _seconds(text: str) -> int:
    """Return the seconds since 1970 of a time as EXIF writes it, -1 for anything else."""
    match = _TIME.match(text)
    if match and match[1] >= "1970":
        with suppress(ValueError):  # a month or day that no year has
            return calendar.timegm((*map(int, match.groups()), 0, 0, 0))
    return -1
