"""What is known of a photo beside its vector, and that measuring it changes no pixel."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from retrain.data import properties
from retrain.data.decoding import decode, decode_and_describe
from retrain.preprocessing import CROP, LETTERBOX


def picture(width=90, height=60, *, mean=120, spread=60):
    noise = np.random.default_rng(0).normal(mean, spread, (height, width, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def file_of(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def described(data, **options):
    pixels, record = decode_and_describe(data, height=32, width=32, **options)
    return pixels, properties.derived(np.frombuffer(record, properties.RECORD))[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("keep", [None, CROP, LETTERBOX])
def test_the_pixels_are_those_of_decode_and_size_and_format_are_the_files(kind, keep):
    data = file_of(picture(), kind)
    pixels, known = described(data, keep_aspect_ratio=keep)
    assert np.array_equal(pixels, decode(data, height=32, width=32, keep_aspect_ratio=keep))
    assert (known["width"], known["height"], known["bytes"]) == (90, 60, len(data))
    assert known["format"].decode() == kind


def test_a_turned_photo_is_as_wide_as_it_is_seen_and_its_camera_and_time_are_known():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "Canon EOS 5D"
    exif[ExifTags.Base.DateTime] = "2020:01:01 00:00:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1970:01:02 00:00:05"
    _, known = described(file_of(picture(), exif=exif))
    assert (known["width"], known["height"]) == (60, 90)
    assert (known["camera"], known["taken"]) == (b"Canon EOS 5D", 24 * 3600 + 5)


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "2020:13:45 99:99:99", "yesterday", ""])
def test_times_that_are_none_lose_no_photo(time):
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime], exif[ExifTags.Base.Model] = time, "Ж" * 60
    _, known = described(file_of(picture(), exif=exif))
    assert (known["width"], known["taken"], known["camera"]) == (90, -1, b"?" * 40)


def test_a_file_without_exif_data_has_no_camera_and_no_time():
    _, known = described(file_of(picture()))
    assert (known["camera"], known["taken"]) == (b"", -1)


def test_levels_are_those_of_the_picture():
    half = Image.new("RGB", (64, 64), (200, 100, 0))
    half.paste((0, 0, 0), (0, 0, 32, 64))
    _, known = described(file_of(half, "PNG"))
    assert known["colour"] == pytest.approx([100, 50, 0], abs=4)
    assert known["dark_end"] == pytest.approx(0, abs=1)
    assert known["bright_end"] == pytest.approx(0.299 * 200 + 0.587 * 100, abs=2)
    assert known["contrast"] == pytest.approx(known["bright_end"] / 2, abs=3)
    assert known["grey"][:, 0].max() == 0
    assert known["grey"][:, -1].min() > 110


def test_the_border_is_that_of_the_photo_and_not_of_its_bars():
    framed = Image.new("RGB", (128, 64), (250, 250, 250))
    framed.paste((0, 0, 0), (16, 8, 112, 56))
    for keep in (None, LETTERBOX):
        _, known = described(file_of(framed, "PNG"), keep_aspect_ratio=keep)
        assert known["border"] == pytest.approx([250] * 3, abs=1)
        assert known["brightness"] < 130


def test_a_blurred_picture_has_less_detail_for_its_slopes():
    sharp, blurred = (
        described(file_of(image, "PNG"))[1]
        for image in (picture(32, 32), picture(32, 32).filter(ImageFilter.GaussianBlur(2)))
    )
    assert blurred["detail"] / blurred["slope"] < 0.6 * sharp["detail"] / sharp["slope"]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
@pytest.mark.parametrize("keep", [None, LETTERBOX])
def test_pictures_of_any_shape_are_described(size, keep):
    _, known = described(file_of(Image.new("L", size, 77), "PNG"), keep_aspect_ratio=keep)
    assert (known["width"], known["height"]) == size
    assert known["brightness"] == pytest.approx(77, abs=1)


def test_a_file_of_more_bytes_than_are_counted_is_known():
    image = picture()
    record = properties.record_of(image, np.asarray(image), image, size=image.size, length=2**32 + 5)
    assert np.frombuffer(record, properties.RECORD)["bytes"] == 2**32 - 1
