"""Recognises image files by their first bytes, whatever their names say."""

from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
JPEG_MAGIC = b"\xff\xd8\xff"
MAGIC_BYTES = 12

_MAGIC = (JPEG_MAGIC, b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def has_image_magic(head: bytes) -> bool:
    """Return whether a file that begins with `head` (`MAGIC_BYTES` of it) is of a format that retrain reads."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def is_image(path: Path) -> bool:
    """Return whether a file begins like an image; False as well where it cannot be read."""
    try:
        with path.open("rb") as file:
            return has_image_magic(file.read(MAGIC_BYTES))
    except OSError:
        return False
