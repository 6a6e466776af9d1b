"""Decodes image files with Pillow to uint8 [H, W, 3]: draft, resize, EXIF orientation."""

import functools
import itertools
import re
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from retrain.data import aspect, properties
from retrain.data.image_files import (
    JPEG_MAGIC,
    MAGIC_BYTES,
    MAX_PIXELS,
    brand_format,
    has_image_magic,
    other_format,
)
from retrain.errors import ImageError, first_line
from retrain.preprocessing import LETTERBOX

RESIZE_RECIPE = "pillow-draft-bilinear-1"  # part of the fingerprint: change it when the pixels change
_VERSION = 2  # raise it when `decode` reads more than before
_HEIF_PACKAGE = "pillow-heif"  # not a dependency where it has no wheels
_FORMATS = ("PNG", "GIF", "BMP", "WEBP", "TIFF")
_NO_IMAGE = "not a JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC or AVIF image"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types of a PNG
_TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_TEXTS_WITH_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
# The box with the size of a coded picture in a HEIC, whose own size is 32 or 64 bits: ISO/IEC 23008-12, 6.5.3.
_CODED_SIZES = [re.compile(box + rb"\0.{3}(.{4})(.{4})", re.DOTALL) for box in (b"ispe", b"\0\0\0\x01ispe.{8}")]
_BITS_PER_SAMPLE, _TILE_WIDTH, _TILE_HEIGHT = 258, 322, 323  # tags of a TIFF
# EXIF orientation -> what turns the image upright. ImageOps.exif_transpose reads the tag of the resized image, which
# has lost it for TIFF and for transparent images, and turning before resizing costs the large image.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


@functools.cache
def decoder() -> str:
    """Return what decodes here, in its versions: what it cannot read, another one may."""
    import importlib.metadata  # asked for where a photo could not be read: it takes 10 ms

    try:
        heif = importlib.metadata.version(_HEIF_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        heif = "missing"
    return f"{_VERSION}, Pillow {PIL.__version__}, {_HEIF_PACKAGE} {heif}"


def decode(data: bytes, *, height: int, width: int, keep_aspect_ratio: str | None = None) -> np.ndarray:
    """Return the pixels of a whole image file as uint8 [height, width, 3], RGB, 0 to 255.

    Reads JPEG, PNG, GIF (first frame), BMP, WebP, TIFF, HEIC and AVIF, recognised by content. The aspect ratio is not
    kept, as in the original, unless `keep_aspect_ratio` says how, as in `InputSpec`. Training, evaluation and labelling
    all call this function.

    Raises:
        ImageError: Not an image, damaged, or larger than `MAX_PIXELS`.
    """
    drawn = _upright(data, size=(width, height), keep_aspect_ratio=keep_aspect_ratio)
    return np.asarray(aspect.pad(drawn.picture, (width, height)))


def decode_and_describe(
    data: bytes, *, height: int, width: int, keep_aspect_ratio: str | None = None
) -> tuple[np.ndarray, bytes]:
    """Return what `decode` returns, and what is known of the photo beside it: a record of `properties.RECORD`.

    Raises:
        ImageError: As `decode`.
    """
    picture, source, size = _upright(data, size=(width, height), keep_aspect_ratio=keep_aspect_ratio)
    padded = aspect.pad(picture, (width, height))
    pixels = np.asarray(padded)
    inside = pixels if padded is picture else np.asarray(picture)
    return pixels, properties.record_of(picture, inside, source, size=size, length=len(data))


def thumbnail(data: bytes, *, side: int) -> Image.Image:
    """Return a whole image file as a small upright RGB picture, whose longest side has so many pixels.

    Raises:
        ImageError: As `decode`.
    """
    return _upright(data, size=(side, side), keep_aspect_ratio=LETTERBOX).picture


class _Drawn(NamedTuple):
    """An upright RGB picture, the opened file that it is from, and the size of the upright photo."""

    picture: Image.Image
    source: Image.Image
    size: aspect.Size


def _upright(data: bytes, *, size: aspect.Size, keep_aspect_ratio: str | None) -> _Drawn:
    """Return an image file as an RGB picture of `size`; a letterboxed one without its bars.

    Raises:
        ImageError: As `decode`.
    """
    try:
        image = _open(data)
        whole = None  # the size of a JPEG before it is drawn smaller, which rounds its sides
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            whole = image.size
            if not _is_one_scan(image, data):
                _check_size(image)  # the decoder keeps all coefficients, however small it draws the picture
            # The decoder's own DCT scaling: the smallest eighth that still covers the size asked for, turned or not.
            image.draft(None, (max(size),) * 2)
        _check_size(image)
        # Pillow turns a TIFF itself when it loads it.
        orientation = 1 if image.format == "TIFF" else image.getexif().get(ExifTags.Base.Orientation, 1)
        lying = size[::-1] if orientation in _SIDEWAYS else size
        rgb = _as_rgb(image)
        whole = whole or rgb.size
        small = aspect.resize(rgb, lying, keep_aspect_ratio, whole)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large("too many")) from error
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error
        raise ImageError(f"damaged or unsupported image ({first_line(error)})") from error
    picture = small.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else small
    return _Drawn(picture, image, whole[::-1] if orientation in _SIDEWAYS else whole)


def is_decoded_otherwise(data: bytes) -> bool:
    """Return whether version 0.1 gave other pixels for an image file: a TIFF, or a PNG with a colour key."""
    chunks = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", _png_chunks(data))
    colour_key = data[25:26] in (bytes([_GREY]), bytes([_RGB])) and any(kind == b"tRNS" for kind, _, _ in chunks)
    return data.startswith((b"II*\0", b"MM\0*")) or colour_key


def may_be_decoded_otherwise(name: str) -> bool:
    """Return whether `is_decoded_otherwise` may hold for a file, by its name."""
    return not name.lower().endswith((".jpg", ".jpeg", ".gif", ".bmp", ".webp"))


def _open(data: bytes) -> ImageFile.ImageFile:
    if not has_image_magic(data[:MAGIC_BYTES]):
        other = other_format(data[:MAGIC_BYTES])
        no_image = f"{other} is not read; save it as JPEG" if other else _NO_IMAGE
        raise ImageError(no_image if data else "empty file")
    if data.startswith(JPEG_MAGIC):
        # Image.open refuses by full size, but a JPEG of 200 million pixels decodes at an eighth of its sides.
        return JpegImagePlugin.JpegImageFile(BytesIO(data))
    if kind := brand_format(data):
        return _open_heic(data) if kind == "HEIC" else _open_avif(data)
    image = Image.open(BytesIO(_without_texts(data)), formats=_FORMATS)
    key = image.info.get("transparency")
    if image.format == "PNG" and data[25] in (_GREY, _RGB) and key is not None:
        image.info["transparency"] = _as_decoded(key, bits=data[24])
    return image


def _open_heic(data: bytes) -> ImageFile.ImageFile:
    """Return a HEIC image, which its decoder turns upright; Pillow's list of formats stays as it is."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            f"HEIC is read with {_HEIF_PACKAGE}, which is missing: pip install {_HEIF_PACKAGE}, or save it as JPEG"
        ) from error
    # Pillow knows the size of what is cut out of it.
    for coded in itertools.chain.from_iterable(pattern.finditer(data) for pattern in _CODED_SIZES):
        width, height = (int.from_bytes(side) for side in coded.groups())
        if width * height > MAX_PIXELS:
            raise ImageError(_too_large(f"{width} x {height}"))
    image: ImageFile.ImageFile = HeifImageFile(BytesIO(data))
    return image


def _open_avif(data: bytes) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise ImageError("this Pillow was built without AVIF: pip install --upgrade pillow, or save it as JPEG")
    return AvifImagePlugin.AvifImageFile(BytesIO(data))


def _as_decoded(key: int | tuple[int, ...], *, bits: int) -> int | tuple[int, ...]:
    """Return the colour key of a PNG with samples of some bits as Pillow decodes samples of that colour."""
    if isinstance(key, tuple):
        return tuple(sample >> 8 for sample in key) if bits == 16 else key
    return key * 255 // (2**bits - 1) if bits in (2, 4) else key


def _without_texts(data: bytes) -> bytes:
    """Return a PNG without its colour profile and comments, which Pillow refuses where they are large."""
    parts, begin = [], 0
    for kind, start, end in _png_chunks(data):
        if kind in _TEXTS and not data.startswith(_TEXTS_WITH_ORIENTATION, start + 8):
            parts.append(data[begin:start])
            begin = end
    return b"".join([*parts, data[begin:]]) if parts else data


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, where it starts and where it ends; none for other files."""
    start = len(_PNG_MAGIC)
    while data.startswith(_PNG_MAGIC) and start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], start, end
        start = end


def _is_one_scan(image: JpegImagePlugin.JpegImageFile, data: bytes) -> bool:
    """Return whether all of a JPEG comes in one scan, so that it is decoded row by row."""
    length = 6 + 2 * image.layers  # of the header of such a scan, behind which Pillow stopped reading
    start = image.fp.tell() - length if image.fp else 0
    return "progressive" not in image.info and data[start : start + 3] == bytes([0, length, image.layers])


def _check_size(image: ImageFile.ImageFile) -> None:
    sizes = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sizes.append((image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_HEIGHT, 0)))
    for width, height in sizes:
        if width * height > MAX_PIXELS:
            raise ImageError(_too_large(f"{width} x {height}"))


def _as_rgb(image: ImageFile.ImageFile) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _grey_from_deep(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    image.load()
    return image.convert("RGB") if image.mode != "RGB" else image


def _grey_from_deep(image: ImageFile.ImageFile) -> Image.Image:
    """Return a 16-bit, 32-bit or float picture as 8-bit RGB.

    Pillow's own conversion clips: everything above 255 of 65,535 would come out white.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    eight_bit = np.clip(values * (255.0 / _white(image)), 0, 255).round().astype(np.uint8)
    eight_bit[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(eight_bit).convert("RGB")


def _white(image: ImageFile.ImageFile) -> float:
    """Return the value of white in a deep picture, the same for all pictures of its kind, whatever their range."""
    if image.mode == "F":
        return 1.0
    tags = getattr(image, "tag_v2", {})
    (bits, *_) = tags.get(_BITS_PER_SAMPLE, (16,))
    return 255.0 if bits > 16 else 2.0**bits - 1  # nobody uses all of 32 bits: Pillow, too, takes them for 0 to 255


def _too_large(pixels: str) -> str:
    return f"{pixels} pixels; at most {MAX_PIXELS // 10**6} million are decoded. Save it smaller"
