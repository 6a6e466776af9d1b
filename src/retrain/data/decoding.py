"""Decodes image files with Pillow to uint8 [H, W, 3]: draft, resize, EXIF orientation."""

from io import BytesIO

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from retrain.data.image_files import JPEG_MAGIC, MAGIC_BYTES, has_image_magic
from retrain.errors import ImageError, first_line

MAX_PIXELS = 2**30 // 12  # 89 million decoded pixels, Pillow's own limit: beyond it lie mistakes and attacks
RESIZE_RECIPE = "pillow-draft-bilinear-1"  # part of the fingerprint: change it when the pixels change
# What it cannot read, another one may: raise the number when `decode` reads more than before.
DECODER = f"1, Pillow {PIL.__version__}"
_FORMATS = ("PNG", "GIF", "BMP", "WEBP", "TIFF")
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


def decode(data: bytes, *, height: int, width: int) -> np.ndarray:
    """Return the pixels of a whole image file as uint8 [height, width, 3], RGB, 0 to 255.

    Reads JPEG, PNG, GIF (first frame), BMP, WebP and TIFF, recognised by content. The aspect ratio is not
    kept, as in the original. Training, evaluation and labelling all call this function.

    Raises:
        ImageError: Not an image, damaged, or larger than `MAX_PIXELS`.
    """
    try:
        image = _open(data)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            # The decoder's own DCT scaling: the smallest eighth that still covers the size asked for, turned or not.
            image.draft(None, (max(height, width),) * 2)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(_too_large(f"{image.width} x {image.height}"))
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        size = (height, width) if orientation in _SIDEWAYS else (width, height)
        small = _as_rgb(image).resize(size, Image.Resampling.BILINEAR)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large("too many")) from error
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error
        raise ImageError(f"damaged or unsupported image ({first_line(error)})") from error
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    return np.asarray(small)


def _open(data: bytes) -> ImageFile.ImageFile:
    if not has_image_magic(data[:MAGIC_BYTES]):
        raise ImageError("empty file" if not data else "not a JPEG, PNG, GIF, BMP, WebP or TIFF image")
    if data.startswith(JPEG_MAGIC):
        # Image.open refuses by full size, but a JPEG of 200 million pixels decodes at an eighth of its sides.
        return JpegImagePlugin.JpegImageFile(BytesIO(data))
    return Image.open(BytesIO(data), formats=_FORMATS)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return _grey_from_deep(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey_from_deep(image: Image.Image) -> Image.Image:
    """Return a 16-bit, 32-bit or float picture as 8-bit RGB.

    Pillow's own conversion clips: everything above 255 of 65,535 would come out white.
    """
    values = np.asarray(image).astype(np.float32)
    top = float(values.max(initial=0.0))
    if image.mode == "F":
        full_scale = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0
    else:
        full_scale = 255.0 if image.mode == "I" and top <= 255 else 65535.0
    eight_bit = np.clip(values * (255.0 / full_scale), 0, 255).round().astype(np.uint8)
    return Image.fromarray(eight_bit).convert("RGB")


def _too_large(pixels: str) -> str:
    return f"{pixels} pixels; at most {MAX_PIXELS // 10**6} million are decoded. Save it smaller"
