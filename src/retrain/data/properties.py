"""What a photo's file and pixels say without a network: size, format, camera, time, brightness, sharpness, border.

They are measured where a photo is decoded anyway, on the picture that the network sees, before bars are added to it.
"""

import calendar
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # who looks properties up needs no Pillow
    from PIL import Image

_DAY = 24 * 3600  # seconds
SIDE = 16  # of the small picture
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601, as Pillow's
# Of one photo, as it is measured and kept. `width` and `height` are those of the upright photo, and 0 where nothing is
# known of it; `bytes` are those of its file, `taken` the seconds of its camera's clock since 1970, -1 where it does not
# say. `slope` and `detail` are the root mean squares of first and second differences between diagonal neighbours, in
# levels of 0 to 255. `small` is the whole picture, each pixel the mean of what it covers.
RECORD = np.dtype(
    [
        ("width", "<u4"), ("height", "<u4"), ("bytes", "<u4"), ("taken", "<i8"), ("format", "S8"), ("camera", "S40"),
        ("slope", "<f4"), ("detail", "<f4"), ("small", "u1", (SIDE, SIDE, 3)),
    ]
)  # fmt: skip
# What follows from it, of the small picture: means, the standard deviation, and the means of the darkest and the
# brightest twentieth, in levels; `border` is the mean of the outermost pixels, a sixteenth at each side.
DTYPE = np.dtype(
    [
        *((name, RECORD[name]) for name in RECORD.names or ()),
        ("grey", "u1", (SIDE, SIDE)), ("brightness", "<f4"), ("contrast", "<f4"), ("dark_end", "<f4"),
        ("bright_end", "<f4"), ("colour", "<f4", 3), ("border", "<f4", 3), ("border_contrast", "<f4"),
    ]
)  # fmt: skip
_FILE = struct.Struct("<IIIq8s40sff")
_MOST_BYTES = 2**32 - 1  # of a file that are counted
_APART = 16  # rows from three neighbouring ones whose differences are looked at to the next three
_END = SIDE * SIDE // 20  # pixels of the small picture are its darkest and its brightest end
_EXIF_BYTES = 2**13  # in which cameras write their times, before the thumbnail
_TIME = re.compile(rb"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)\0")
_RING = np.ones((SIDE, SIDE), bool)
_RING[1:-1, 1:-1] = False
_AT_ONCE = 4096  # records


def record_of(
    picture: "Image.Image", pixels: np.ndarray, source: "Image.Image", *, size: tuple[int, int], length: int
) -> bytes:
    """Return what is known of a photo, as one `RECORD`.

    Nothing is computed that can be computed later: behind a network, whose weights fill the processor's caches, each
    call of numpy takes several microseconds.

    Args:
        picture: The upright RGB picture that a network sees, without bars.
        pixels: The same, uint8 [h, w, 3].
        source: The opened file, which knows its format and EXIF data.
        size: Width and height of the upright photo.
        length: Of the file, in bytes.
    """
    camera, taken = _exif(source)
    known = _FILE.pack(
        *size, min(length, _MOST_BYTES), taken, (source.format or "").encode()[:8], camera, *_differences(pixels)
    )
    return known + _small(picture).tobytes()


def derived(records: np.ndarray) -> np.ndarray:
    """Return all properties of photos, `DTYPE` [n], from `RECORD` [n]; zeros where nothing is known."""
    found = np.zeros(len(records), DTYPE)
    for name in RECORD.names or ():
        found[name] = records[name]
    for start in range(0, len(records), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        small = some["small"].astype(np.float32)
        grey = small @ GREY
        ordered, ring = np.sort(grey.reshape(-1, SIDE * SIDE), axis=1), grey[:, _RING]
        some["grey"] = grey.round()
        some["brightness"], some["contrast"] = ordered.mean(axis=1), ordered.std(axis=1)
        some["dark_end"], some["bright_end"] = ordered[:, :_END].mean(axis=1), ordered[:, -_END:].mean(axis=1)
        some["colour"], some["border"] = small.mean(axis=(1, 2)), small[:, _RING].mean(axis=1)
        some["border_contrast"] = ring.std(axis=1)
    return found


def day_of(known: np.ndarray) -> np.ndarray:
    """Return the day of each photo [N], int64 since 1970 by the clock of its camera; -1 where it is not known."""
    return np.where(known["taken"] < 0, -1, known["taken"] // _DAY)


def _small(picture: "Image.Image") -> "Image.Image":
    """Return an RGB picture of `SIDE` x `SIDE`, each pixel the mean of what it covers, nearly."""
    from PIL import Image

    factors = max(1, picture.width // SIDE), max(1, picture.height // SIDE)
    small = picture.reduce(factors)  # at half the cost of resizing all of it
    return small if small.size == (SIDE, SIDE) else small.resize((SIDE, SIDE), Image.Resampling.BOX)


def _differences(pixels: np.ndarray) -> tuple[float, float]:
    """Return the root mean squares of first and second differences in some rows of uint8 [h, w, 3].

    They are taken along a diagonal, which blur across or along shortens too, and of green, of which light has most.
    """
    height, width, _ = pixels.shape
    apart = min(_APART, height)
    rows = pixels[: height // apart * apart].reshape(-1, apart, width, 3)
    bands = rows[:, :3, :, 1].astype(np.float32)
    first = bands[:, 1:, 1:] - bands[:, :-1, :-1]
    second = first[:, 1:, 1:] - first[:, :-1, :-1]
    slope, detail = (float(np.vdot(values, values)) / max(1, values.size) for values in (first, second))
    return slope**0.5, detail**0.5


def _exif(source: "Image.Image") -> tuple[bytes, int]:
    """Return camera and time in the EXIF data of an opened file: b"" and -1 where it has none, or damaged ones."""
    from PIL import ExifTags

    raw = source.info.get("exif")
    if not isinstance(raw, bytes):
        return b"", -1
    with suppress(Exception):  # Pillow raises anything; a photo that can be decoded is not lost for its EXIF data
        exif = source.getexif()
        names = [_text(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
        if names[1].lower().startswith(names[0].lower()):
            names = names[1:]
        return " ".join(filter(None, names)).encode("ascii", "replace")[:40], _earliest(raw)
    return b"", -1


def _text(value: Any) -> str:
    return value.replace("\0", " ").strip() if isinstance(value, str) else ""


def _earliest(exif: bytes) -> int:
    """Return the earliest time in EXIF data, in seconds since 1970, -1 where there is none.

    It is that of the photo: others are those of changes. To parse all of the data takes a quarter of a millisecond.
    """
    times = []
    for match in _TIME.finditer(exif, 0, _EXIF_BYTES):
        if match[1] >= b"1970":
            with suppress(ValueError):  # a month or day that no year has
                times.append(calendar.timegm((*map(int, match.groups()), 0, 0, 0)))
    return min(times, default=-1)
