"""Decodes images with operations of TensorFlow, as `decoding` does with Pillow, for graphs that take image files.

What TensorFlow decodes wrongly or not at all is refused with an InvalidArgumentError that says what it is, before its
decoder sees it: TIFF, HEIC, AVIF, animated WebP (which ends the process), and BMP other than 8, 24 or 32 bits.
"""

from collections.abc import Callable
from typing import Any

from retrain.data.image_files import BRANDS, JPEG_MAGIC, MAX_PIXELS
from retrain.preprocessing import CROP, LETTERBOX, PADDING

_HEAD_BYTES = 2**16  # a JPEG's EXIF segment is no longer, and comes first
_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12  # of a tag in EXIF
_TAGS_AT_MOST = 64
_ZEROS = 16  # behind the end of a file
_WITH_ALPHA = 4  # and 6, colour types of a PNG
_BITMAP = 14  # where the second header of a BMP starts
_BITFIELDS = 3
_BLUE_GREEN_RED = (0xFF0000, 0xFF00, 0xFF)  # masks
_GIF_BLOCK, _GIF_CONTROL, _GIF_PICTURE = 0x21, 0xF9, 0x2C


def decode(data: Any, *, height: int, width: int, keep_aspect_ratio: str | None = None) -> Any:
    """Return the pixels of a whole image file, float32 [height, width, 3], RGB, whole numbers 0 to 255.

    `data` is a string [], of any format that TensorFlow decodes; `keep_aspect_ratio` is as in `InputSpec`.
    """
    import tensorflow as tf

    file = _File(data)
    kinds = [
        (file.holds(JPEG_MAGIC), lambda: (_decode_jpeg(file), _orientation(file, [(b"Exif\0\0", 6)], _HEAD_BYTES))),
        (file.holds(b"\x89PNG\r\n\x1a\n"), lambda: (_decode_png(file), _orientation(file, [(b"eXIf", 4)]))),
        (file.holds(b"GIF8"), lambda: (_decode_gif(file), 1)),
        (file.holds(b"BM"), lambda: (_decode_bmp(file), 1)),
        (
            file.holds(b"RIFF") & file.holds(b"WEBP", 8),
            lambda: (_decode_webp(file), _orientation(file, [(b"EXIF", 8), (b"Exif\0\0", 6)])),
        ),
    ]
    image, orientation = tf.case(kinds, default=lambda: (_refuse_all(file), 1))
    upright = _turn_upright(tf.ensure_shape(image, [None, None, 3]), orientation)
    fit = {None: _squashed, LETTERBOX: _letterboxed, CROP: _cropped}[keep_aspect_ratio]
    return tf.clip_by_value(tf.round(fit(upright, height, width)), 0, 255)


def _squashed(image: Any, height: int, width: int) -> Any:
    """Return an image [h, w, 3] resized as `aspect.resize` does, float32 [height, width, 3]."""
    import tensorflow as tf

    return tf.image.resize(image, [height, width], antialias=True)


def _letterboxed(image: Any, height: int, width: int) -> Any:
    """Return the same with the aspect ratio kept and grey bars at two sides, as `aspect.pad` adds them."""
    import tensorflow as tf

    # As Python computes, in float64 and with halves rounded to even numbers, so that no side differs by a pixel.
    rows, columns = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float64))
    wide = columns / rows > width / height
    down = tf.where(wide, tf.round(rows / columns * width), height)
    across = tf.where(wide, tf.cast(width, tf.float64), tf.round(columns / rows * height))
    inside = [tf.maximum(1, tf.cast(side, tf.int32)) for side in (down, across)]
    rest = [side - inner for side, inner in zip((height, width), inside, strict=True)]
    before = [tf.cast(tf.round(tf.cast(bars, tf.float64) / 2), tf.int32) for bars in rest]
    margins = [[first, bars - first] for first, bars in zip(before, rest, strict=True)]
    small = tf.image.resize(image, inside, antialias=True)
    return tf.ensure_shape(tf.pad(small, [*margins, [0, 0]], constant_values=PADDING), [height, width, 3])


def _cropped(image: Any, height: int, width: int) -> Any:
    """Return the same of the middle of the image, which may begin between two pixels."""
    import tensorflow as tf

    size = tf.constant([height, width], tf.float32)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.reduce_max(size / sides)
    (small,) = tf.unstack(
        tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=[height, width],
            scale=tf.stack([scale, scale]),
            translation=(size - sides * scale) / 2,
            kernel_type="triangle",
            antialias=True,
        ),
        num=1,
    )
    return tf.ensure_shape(small, [height, width, 3])


class _File:
    """A file's content, as a string [] and as bytes uint8 [n], with `_ZEROS` zeros behind them."""

    def __init__(self, data: Any) -> None:
        import tensorflow as tf

        self.data = data
        content = tf.io.decode_raw(data, tf.uint8)
        self.size = tf.size(content, tf.int64)
        self.bytes = tf.concat([content, tf.zeros([_ZEROS], tf.uint8)], 0)

    def number(self, place: Any, count: int = 1, *, big: bool = False) -> Any:
        """Return the number in `count` bytes at a place, int64 of the place's shape; the end is followed by zeros."""
        import tensorflow as tf

        places = [tf.minimum(tf.cast(place + i, tf.int64), self.size) for i in range(count)]
        digits = [tf.gather(self.bytes, place) for place in places]
        return sum(tf.cast(digit, tf.int64) * 256**i for i, digit in enumerate(reversed(digits) if big else digits))

    def holds(self, text: bytes, place: int = 0) -> Any:
        """Return whether a text is at a place, bool []."""
        import tensorflow as tf

        return tf.reduce_all([tf.equal(self.number(place + i), byte) for i, byte in enumerate(text)])

    def checked(self, *rules: tuple[Any, str]) -> Any:
        """Return the content, string [], once each condition is met; each comes with what its opposite is called."""
        import tensorflow as tf

        checks = [tf.debugging.Assert(condition, [f"image refused: {problem}"]) for condition, problem in rules]
        with tf.control_dependencies(checks):
            return tf.identity(self.data)


def _small_enough(width: Any, height: Any) -> tuple[Any, str]:
    import tensorflow as tf

    pixels = tf.cast(width, tf.int64) * tf.cast(height, tf.int64)
    return tf.abs(pixels) <= MAX_PIXELS, f"more than {MAX_PIXELS // 10**6} million pixels"


def _refuse_all(file: _File) -> Any:
    """Return no image: always fails."""
    import tensorflow as tf

    tiff = file.holds(b"II*\0") | file.holds(b"MM\0*")
    heic = tf.reduce_any([file.holds(b"ftyp" + brand, 4) for brand in BRANDS])
    known = tiff | heic
    data = file.checked((~tiff, "TIFF"), (~heic, "HEIC or AVIF"), (known, "not a JPEG, PNG, GIF, BMP or WebP"))
    return tf.io.decode_png(data, channels=3)


def _decode_jpeg(file: _File) -> Any:
    import tensorflow as tf

    shape = tf.image.extract_jpeg_shape(file.data)
    data = file.checked(_small_enough(shape[0], shape[1]))
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(file: _File) -> Any:
    import tensorflow as tf

    data = file.checked(_small_enough(file.number(16, 4, big=True), file.number(20, 4, big=True)))
    # With four channels, colour keys become transparency; but what has none of less than 8 bits is taken for faint.
    return tf.cond(
        _is_see_through(file),
        lambda: _on_white(tf.io.decode_png(data, channels=4)),
        lambda: tf.io.decode_png(data, channels=3),
    )


def _is_see_through(file: _File) -> Any:
    """Return whether a PNG has an alpha channel, a colour key or a palette with transparent colours, bool []."""
    import tensorflow as tf

    def kind_is(place: Any, kind: bytes) -> Any:
        return tf.equal(file.number(place + 4, 4, big=True), int.from_bytes(kind))

    place = tf.while_loop(
        lambda place: (place < file.size) & ~kind_is(place, b"IDAT") & ~kind_is(place, b"tRNS"),
        lambda place: (place + 12 + file.number(place, 4, big=True),),
        (tf.constant(8, tf.int64),),
    )[0]
    return (file.number(25) >= _WITH_ALPHA) | kind_is(place, b"tRNS")


def _decode_webp(file: _File) -> Any:
    import tensorflow as tf

    extended, lossless = file.holds(b"VP8X", 12), file.holds(b"VP8L", 12)
    bits = file.number(21, 4)
    plain = tf.where(lossless, 1 + bits % 2**14, file.number(26, 2) % 2**14)
    width = tf.where(extended, 1 + file.number(24, 3), plain)
    plain = tf.where(lossless, 1 + bits // 2**14 % 2**14, file.number(28, 2) % 2**14)
    height = tf.where(extended, 1 + file.number(27, 3), plain)
    animated = extended & tf.equal(file.number(20) // 2 % 2, 1)
    data = file.checked((~animated, "animated WebP"), _small_enough(width, height))
    return _on_white(tf.io.decode_image(data, expand_animations=False))


def _decode_bmp(file: _File) -> Any:
    """Return a BMP as uint8 [h, w, 3]; TensorFlow knows neither palettes nor bytes that are not used."""
    import tensorflow as tf

    header, bits, packing = file.number(_BITMAP, 4), file.number(28, 2), file.number(30, 4)
    masks = [tf.equal(file.number(54 + 4 * i, 4), mask) for i, mask in enumerate(_BLUE_GREEN_RED)]
    alpha = tf.where(header >= 56, file.number(66, 4), 0)
    see_through = tf.equal(packing, _BITFIELDS) & (alpha > 0)
    usual = tf.equal(packing, 0) | (
        tf.equal(packing, _BITFIELDS) & tf.equal(bits, 32) & tf.reduce_all(masks) & (alpha % 0xFF000000 == 0)
    )
    data = file.checked(
        (header >= 40, "BMP of OS/2"),
        (tf.reduce_any([tf.equal(bits, count) for count in (8, 24, 32)]), "BMP of other than 8, 24 or 32 bits"),
        (usual, "BMP that is compressed or has unusual masks"),
        _small_enough(file.number(18, 4), file.number(22, 4) - tf.where(file.number(25) > 127, 2**32, 0)),
    )
    image = tf.ensure_shape(tf.io.decode_bmp(data), [None, None, None])

    def painted() -> Any:
        used = file.number(46, 4)
        count = tf.where((used < 1) | (used > 256), tf.constant(256, tf.int64), used)
        entries = tf.range(256, dtype=tf.int64)
        start = _BITMAP + header + 4 * entries
        palette = tf.stack([file.number(start + 2), file.number(start + 1), file.number(start)], 1)
        palette = tf.where((entries < count)[:, None], palette, 0)
        return tf.cast(tf.gather(palette, tf.cast(image[:, :, 0], tf.int32)), tf.uint8)

    def coloured() -> Any:
        return tf.cond(see_through, lambda: _on_white(image), lambda: image[:, :, :3])

    return tf.cond(tf.equal(bits, 8), painted, coloured)


def _decode_gif(file: _File) -> Any:
    """Return the first frame of a GIF as uint8 [h, w, 3].

    TensorFlow paints what is transparent black: before it decodes, the transparent entry of the palette is made white
    and no longer transparent.
    """
    import tensorflow as tf

    first = 13 + _palette_bytes(file.number(10))
    control, picture = _gif_blocks(file, first)
    packed = file.number(picture + 9)
    local = _palette_bytes(packed) > 0
    palette, count = tf.where(local, picture + 10, 13), tf.where(local, _palette_bytes(packed), first - 13) // 3
    key = file.number(control + 6)
    see_through = (control > 0) & tf.equal(file.number(control + 3) % 2, 1)
    left, top, width, height = (file.number(picture + 1 + 2 * i, 2) for i in range(4))
    right, bottom = tf.maximum(file.number(6, 2), left + width), tf.maximum(file.number(8, 2), top + height)
    there = tf.equal(file.number(picture), _GIF_PICTURE)
    data = file.checked((there, "GIF without a picture"), _small_enough(right, bottom))
    data = _replace(data, control + 3, b"\0", see_through)
    data = _replace(data, palette + 3 * key, b"\xff\xff\xff", see_through & (key < count))
    data = _replace(data, picture + 1, bytes(4), there)  # TensorFlow returns the frame alone, shifted in itself
    frame = tf.ensure_shape(tf.io.decode_image(data, channels=3, expand_animations=False), [None, None, 3])
    around = [[top, bottom - top - height], [left, right - left - width], [0, 0]]
    inside = tf.pad(tf.ones_like(frame), around) > 0
    # Around a frame that does not fill the picture, Pillow shows the transparent colour, or else the first.
    first_colour = tf.stack([file.number(palette + i) for i in range(3)])
    background = tf.where(see_through, tf.constant(255, tf.int64), first_colour)
    return tf.where(inside, tf.pad(frame, around), tf.cast(background, tf.uint8))


def _palette_bytes(packed: Any) -> Any:
    """Return the bytes of the palette that the packed fields of a GIF announce, int64."""
    import tensorflow as tf

    sizes = tf.constant([3 * 2 ** (1 + bits) for bits in range(8)], tf.int64)
    return tf.where(packed > 127, tf.gather(sizes, packed % 8), 0)


def _gif_blocks(file: _File, start: Any) -> tuple[Any, Any]:
    """Return where the last graphic control before a GIF's first picture is, 0 for none, and where the picture is."""
    import tensorflow as tf

    def goes_on(place: Any, control: Any, within: Any) -> Any:
        return (place < file.size) & (within | tf.equal(file.number(place), _GIF_BLOCK))

    def step(place: Any, control: Any, within: Any) -> tuple[Any, Any, Any]:
        size = file.number(place)  # of a block's next part, 0 at its end
        found = ~within & tf.equal(file.number(place + 1), _GIF_CONTROL)
        control = tf.where(found, place, control)
        return tf.where(within, place + 1 + size, place + 2), control, tf.where(within, size > 0, True)

    place, control, _ = tf.while_loop(goes_on, step, (start, tf.constant(0, tf.int64), tf.constant(False)))
    return control, place


def _replace(data: Any, place: Any, text: bytes, condition: Any) -> Any:
    """Return a string [] with a text of the same length at a place, where a condition is met."""
    import tensorflow as tf

    def replaced() -> Any:
        start = tf.cast(place, tf.int32)
        end = start + len(text)
        return tf.strings.join([tf.strings.substr(data, 0, start), text, tf.strings.substr(data, end, 2**30)])

    return tf.cond(condition, replaced, lambda: data)


def _orientation(file: _File, markers: list[tuple[bytes, int]], head: int = 2**31 - 1) -> Any:
    """Return the EXIF orientation of a file, int32 1 to 8; 1, upright, if it has none.

    EXIF data are behind one of the markers, so many bytes from its beginning, and among the first `head` bytes.
    https://www.cipa.jp/std/documents/e/DC-X008-Translation-2023-E.pdf, sections 4.5 and 4.6.4.
    """
    import tensorflow as tf

    count = tf.minimum(file.size, head)

    def each(text: bytes, offset: int) -> Any:
        """Return, for each place, whether a text is `offset` bytes behind it."""
        starts = range(offset, offset + len(text))
        return tf.reduce_all([tf.equal(file.bytes[i : i + count], b) for i, b in zip(starts, text, strict=True)], 0)

    starts = []
    for marker, offset in markers:
        here = each(marker, 0) & (each(b"II*\0", offset) | each(b"MM\0*", offset))
        starts.append(tf.where(tf.reduce_any(here), tf.argmax(here) + offset, 0))
    start = tf.reduce_max(starts)
    little = tf.equal(file.number(start), ord("I"))

    def number(place: Any) -> Any:
        """Return the 16-bit number at an offset."""
        return tf.where(little, file.number(start + place, 2), file.number(start + place, 2, big=True))

    # The list of tags lies within the first 64 KB: of its four-byte address, two count.
    tags = tf.where(little, number(4), number(6))
    entries = tags + 2 + _ENTRY_BYTES * tf.range(tf.minimum(number(tags), _TAGS_AT_MOST))
    values = tf.boolean_mask(number(entries + 8), tf.equal(number(entries), _ORIENTATION_TAG))
    value = tf.reduce_max(tf.concat([values, [1]], 0))
    return tf.where((start > 0) & (value <= 8), tf.cast(value, tf.int32), 1)


def _on_white(image: Any) -> Any:
    """Return an image [h, w, 3 or 4] as uint8 [h, w, 3]; transparent parts show white."""
    import tensorflow as tf

    image = tf.ensure_shape(image, [None, None, None])
    colour = tf.cast(image[:, :, :3], tf.float32)
    alpha = tf.where(tf.equal(tf.shape(image)[2], 4), tf.cast(image[:, :, -1:], tf.float32) / 255, 1.0)
    return tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)


def _turn_upright(image: Any, orientation: Any) -> Any:
    """Return an image [h, w, 3] turned as its EXIF orientation, int32 1 to 8, asks for."""
    import tensorflow as tf

    def when(orientations: tuple[int, ...], change: Callable[[Any], Any], picture: Any) -> Any:
        asked = tf.reduce_any(tf.equal(orientation, orientations))
        return tf.ensure_shape(tf.cond(asked, lambda: change(picture), lambda: picture), [None, None, 3])

    image = when((5, 6, 7, 8), lambda picture: tf.transpose(picture, [1, 0, 2]), image)
    image = when((2, 3, 6, 7), lambda picture: tf.reverse(picture, [1]), image)
    return when((3, 4, 7, 8), lambda picture: tf.reverse(picture, [0]), image)
