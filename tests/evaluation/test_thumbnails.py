"""Thumbnails: small, upright, on white, and none of what cannot be read."""

import io

import numpy as np
import pytest
from builders import as_stored, encoded, quarters
from PIL import Image

from retrain.evaluation import thumbnails


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_are_upright_and_keep_the_aspect_ratio(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    picture = as_stored(quarters((640, 480)), orientation)
    (tmp_path / "a.jpg").write_bytes(encoded(picture, "JPEG", exif=exif))
    (data,) = thumbnails.thumbnails(tmp_path, ["a.jpg"])
    small = opened(data).convert("RGB")
    assert small.size == (128, 96)
    corners = [small.getpixel(at) for at in ((30, 20), (100, 20), (30, 70), (100, 70))]
    wanted = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert np.abs(np.subtract(corners, wanted)).max() < 40


def test_they_are_small_whatever_is_in_them_and_come_in_order(tmp_path):
    rng, sizes = np.random.default_rng(0), [(400, 300), (300, 400), (128, 128), (20, 10), (900, 3)]
    for number, size in enumerate(sizes):
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(tmp_path / f"{number}.png")
    found = list(thumbnails.thumbnails(tmp_path, [f"{number}.png" for number in range(len(sizes))]))
    assert [opened(data).size for data in found] == [(128, 96), (96, 128), (128, 128), (128, 64), (128, 1)]
    assert all(len(data) < 8000 for data in found)  # noise, of which nothing is smooth
    assert all(opened(data).format == "JPEG" for data in found)


def test_what_is_transparent_is_white_and_what_cannot_be_read_is_left_out(tmp_path):
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "cut.jpg").write_bytes(encoded(quarters(), "JPEG")[:100])
    clear, *others = thumbnails.thumbnails(tmp_path, ["clear.png", "text.jpg", "cut.jpg", "gone.jpg"])
    assert np.asarray(opened(clear)).min() > 250
    assert others == [None, None, None]
    assert list(thumbnails.thumbnails(tmp_path, [])) == []
