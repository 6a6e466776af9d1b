import contextlib
import functools
import struct
import subprocess
import sys
import zlib

import numpy as np
import pillow_heif
import pytest
from builders import as_stored, encoded, quarters
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrain.data.decoding import decode
from retrain.data.image_files import has_image_magic, is_image
from retrain.errors import ImageError

pillow_heif.register_heif_opener()  # makes Pillow write HEIC
KINDS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "HEIF", "AVIF"]


@functools.cache
def sample(kind):
    return encoded(quarters(), kind)


def assert_quarters(pixels, tolerance=40):
    height, width = pixels.shape[:2]
    corners = [pixels[y, x] for y in (height // 5, 4 * height // 5) for x in (width // 5, 4 * width // 5)]
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert np.abs(np.array(corners, int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_upright_rgb_of_the_size_asked_for(kind):
    pixels = decode(encoded(quarters(), kind), height=20, width=30)
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    assert_quarters(pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_keeps_its_brightness(mode):
    grey = Image.new("L", (16, 16), 128)
    if mode == "I;16":
        image = Image.fromarray(np.full((16, 16), 128 * 257, np.uint16))
    elif mode == "F":
        image = Image.fromarray(np.full((16, 16), 128 / 255, np.float32))
    else:
        image = (grey.convert("RGB") if mode == "CMYK" else grey).convert(mode)
    kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    mean = decode(encoded(image, kind), height=8, width=8).mean()
    assert mean == pytest.approx(128, abs=2 if mode != "1" else 8)


def test_transparency_shows_white():
    for image in (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), Image.new("LA", (8, 8), (0, 0))):
        assert (decode(encoded(image, "PNG"), height=4, width=4) == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0] + [0, 0, 0] * 255)
    assert (decode(encoded(palette, "PNG", transparency=0), height=4, width=4) == 255).all()


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decode(data, height=4, width=4)[0, 0, 0] > 200


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_undone(kind, orientation):
    stored = as_stored(quarters((400, 300)), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(stored, kind, exif=exif), height=24, width=32)
    assert pixels.shape == (24, 32, 3)
    assert_quarters(pixels)


def test_a_large_jpeg_decoded_small_looks_like_the_same_decoded_whole(data):
    photo = next((data / "datasets" / "flowers_1100" / "daisy").glob("*.jpg"))
    whole = np.asarray(Image.open(photo).convert("RGB").resize((64, 64), Image.Resampling.BOX), float)
    assert np.abs(decode(photo.read_bytes(), height=64, width=64) - whole).mean() < 12


def test_the_name_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpeg"
    path.write_bytes(encoded(quarters(), "WEBP"))
    assert is_image(path)
    assert_quarters(decode(path.read_bytes(), height=20, width=20))


def test_a_truncated_jpeg_is_refused():
    whole = encoded(quarters((400, 400)), "JPEG")
    with pytest.raises(ImageError, match="damaged"):
        decode(whole[: len(whole) // 2], height=16, width=16)


def huge_png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [30_000, 10_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decompressed(side):
    with pytest.raises(ImageError, match="89 million"):
        decode(huge_png(side, side), height=16, width=16)


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 100, b"%PDF-1.7 and more", b"<html></html>"])
def test_what_is_no_image_is_said_to_be_none(data):
    assert not has_image_magic(data)
    with pytest.raises(ImageError, match="empty file|not a JPEG"):
        decode(data, height=8, width=8)


def test_a_photo_of_a_format_that_is_not_read_is_called_by_its_name():
    with pytest.raises(ImageError, match="CR3 is not read; save it as JPEG"):
        decode(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", height=8, width=8)


def test_where_the_decoder_of_heic_is_missing_the_photo_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(ImageError, match="pip install pillow-heif, or save it as JPEG"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", height=8, width=8)


def test_photos_of_other_formats_do_not_import_the_decoder_of_heic():
    code = f"""
import sys
from retrain.data.decoding import decode
decode({encoded(quarters(), "JPEG")!r}, height=8, width=8)
print({{"pillow_heif", "PIL.AvifImagePlugin"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_decoding_a_heic_leaves_the_formats_of_pillow_as_they_are():
    code = f"""
import io
from PIL import Image
from retrain.data.decoding import decode
heic = {encoded(quarters(), "HEIF")!r}
print(decode(heic, height=8, width=8).shape)
try:
    Image.open(io.BytesIO(heic))
except Image.UnidentifiedImageError:
    print("as before")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["(8, 8, 3)", "as before"]


def test_threads_may_meet_their_first_heic_at_once():
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from retrain.data.decoding import decode
heic = {encoded(quarters(), "HEIF")!r}
with ThreadPoolExecutor(8) as pool:
    print(len({{decode.tobytes() for decode in pool.map(lambda _: decode(heic, height=8, width=8), range(64))}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


HEIC_HEAD, AVIF_HEAD = (b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand for brand in (b"heic", b"avif"))
MAGICS = [
    HEIC_HEAD,
    AVIF_HEAD,
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\0\0\0WEBP",
]


@settings(max_examples=300)
@given(st.sampled_from(MAGICS), st.binary(max_size=200))
def test_rubbish_behind_the_first_bytes_is_an_image_error(magic, rest):
    with pytest.raises(ImageError):
        decode(magic + rest, height=8, width=8)


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 5000), st.integers(1, 255))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_damaged_byte_gives_pixels_or_an_image_error(kind, position, change):
    data = bytearray(sample(kind))
    data[position % len(data)] ^= change
    with contextlib.suppress(ImageError):
        assert decode(bytes(data), height=8, width=8).shape == (8, 8, 3)


@settings(max_examples=100)
@given(st.sampled_from(KINDS), st.floats(0, 1))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_file_that_is_cut_short_gives_pixels_or_an_image_error(kind, share):
    data = sample(kind)
    with contextlib.suppress(ImageError):
        assert decode(data[: int(share * len(data))], height=8, width=8).shape == (8, 8, 3)
