"""Fits a picture into another aspect ratio: squashed, letterboxed or cropped; `decoding_in_graph` does the same."""

from PIL import Image

from retrain.preprocessing import CROP, LETTERBOX, PADDING

Size = tuple[int, int]  # width and height, as Pillow has them


def resize(picture: Image.Image, size: Size, keep_aspect_ratio: str | None, whole: Size) -> Image.Image:
    """Return a picture resized to `size`; a letterboxed one without its bars, so that it may still be turned.

    Args:
        picture: RGB; perhaps decoded smaller than it is, and then its sides are rounded.
        size: Of the result.
        keep_aspect_ratio: As in `InputSpec`.
        whole: The size that the picture has itself.
    """
    if keep_aspect_ratio == LETTERBOX:
        return picture.resize(_inside(whole, size), Image.Resampling.BILINEAR)
    box = _middle(picture.size, whole, size) if keep_aspect_ratio == CROP else None
    return picture.resize(size, Image.Resampling.BILINEAR, box=box)


def pad(picture: Image.Image, size: Size) -> Image.Image:
    """Return a picture in the middle of `size`, with grey bars at two sides; the very one where it fills that."""
    if picture.size == size:
        return picture
    canvas = Image.new("RGB", size, (PADDING,) * 3)
    left, top = (round((side - inner) * 0.5) for side, inner in zip(size, picture.size, strict=True))
    canvas.paste(picture, (left, top))
    return canvas


def _inside(whole: Size, size: Size) -> Size:
    """Return the largest size of an aspect ratio within another one, rounded as by ImageOps.pad, but never to 0."""
    (width, height), (across, down) = whole, size
    if width / height > across / down:
        return across, max(1, round(height / width * across))
    return max(1, round(width / height * down)), down


def _middle(drawn: Size, whole: Size, size: Size) -> tuple[float, float, float, float]:
    """Return the box of ImageOps.fit in a picture: its largest part of the aspect ratio of `size`, from the middle."""
    (width, height), ratio = whole, size[0] / size[1]
    shares = (ratio * height / width, 1.0) if width / height >= ratio else (1.0, width / ratio / height)
    left, top = ((side - side * min(share, 1.0)) / 2 for side, share in zip(drawn, shares, strict=True))
    return left, top, drawn[0] - left, drawn[1] - top
