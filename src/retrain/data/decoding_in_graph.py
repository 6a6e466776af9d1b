"""Decodes images with operations of TensorFlow, as `decoding` does with Pillow, for graphs that take image files."""

from typing import Any

from retrain.data.image_files import JPEG_MAGIC

_EXIF = b"Exif\0\0"
_HEAD_BYTES = 2**16  # a JPEG's EXIF segment is no longer, and comes first
_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12  # of a tag in EXIF
_TAGS_AT_MOST = 64


def decode(data: Any, *, height: int, width: int) -> Any:
    """Return the pixels of a whole image file, float32 [height, width, 3], RGB, whole numbers 0 to 255.

    `data` is a string [], of any format that TensorFlow decodes.
    """
    import tensorflow as tf

    jpeg = tf.equal(tf.strings.substr(data, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
    image = tf.cond(jpeg, lambda: tf.io.decode_jpeg(data, channels=3), lambda: _decode_on_white(data))
    upright = _turn_upright(tf.ensure_shape(image, [None, None, 3]), _exif_orientation(data))
    small = tf.image.resize(upright, [height, width], antialias=True)
    return tf.clip_by_value(tf.round(small), 0, 255)


def _exif_orientation(data: Any) -> Any:
    """Return a JPEG's EXIF orientation, int32 1 to 8; 1, upright, if it has none.

    https://www.cipa.jp/std/documents/e/DC-X008-Translation-2023-E.pdf, sections 4.5 and 4.6.4.
    """
    import tensorflow as tf

    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD_BYTES), tf.uint8), tf.int32)
    size = tf.size(head)
    # Padded with zeros, so that every offset below exists.
    head = tf.concat([head, tf.zeros([len(_EXIF)], tf.int32)], 0)
    here = tf.reduce_all([tf.equal(head[i : i + size], byte) for i, byte in enumerate(_EXIF)], axis=0)
    start = tf.argmax(here, output_type=tf.int32) + len(_EXIF)

    def byte(place: Any) -> Any:
        return tf.gather(head, tf.clip_by_value(start + place, 0, size))

    little = tf.equal(byte(0), ord("I"))

    def number(place: Any) -> Any:
        """Return the 16-bit number at an offset."""
        first, second = byte(place), byte(place + 1)
        return tf.where(little, first + 256 * second, 256 * first + second)

    # The list of tags lies within the first 64 KB: of its four-byte address, two count.
    tags = tf.where(little, number(4), number(6))
    entries = tags + 2 + _ENTRY_BYTES * tf.range(tf.minimum(number(tags), _TAGS_AT_MOST))
    values = tf.boolean_mask(number(entries + 8), tf.equal(number(entries), _ORIENTATION_TAG))
    value = tf.reduce_max(tf.concat([values, [1]], 0))
    valid = tf.reduce_any(here) & tf.equal(head[0], 0xFF) & (value <= 8)
    return tf.where(valid, value, 1)


def _decode_on_white(data: Any) -> Any:
    """Return an image other than a JPEG as uint8 [h, w, 3]; transparent parts show white."""
    import tensorflow as tf

    image = tf.io.decode_image(data, expand_animations=False)
    image = tf.cast(tf.ensure_shape(image, [None, None, None]), tf.float32)
    channels = tf.shape(image)[2]
    see_through = tf.equal(channels % 2, 0)  # grey or coloured, and alpha behind it
    colour = image[:, :, : tf.where(channels < 3, 1, 3)]
    alpha = tf.where(see_through, image[:, :, channels - 1 :] / 255, 1.0)
    flat = tf.round(colour * alpha + 255 * (1 - alpha))
    return tf.cast(tf.broadcast_to(flat, [tf.shape(image)[0], tf.shape(image)[1], 3]), tf.uint8)


def _turn_upright(image: Any, orientation: Any) -> Any:
    """Return an image [h, w, 3] turned as its EXIF orientation, int32 1 to 8, asks for."""
    import tensorflow as tf

    def when(orientations: tuple[int, ...], change: Any, picture: Any) -> Any:
        asked = tf.reduce_any(tf.equal(orientation, orientations))
        return tf.ensure_shape(tf.cond(asked, lambda: change(picture), lambda: picture), [None, None, 3])

    image = when((5, 6, 7, 8), lambda picture: tf.transpose(picture, [1, 0, 2]), image)
    image = when((2, 3, 6, 7), lambda picture: tf.reverse(picture, [1]), image)
    return when((3, 4, 7, 8), lambda picture: tf.reverse(picture, [0]), image)
