"""Decoded photos lie in one flat file, as they would be decoded alone."""

import resource
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from retrain.bottlenecks.decoded import decode_all
from retrain.data.decoding import decode
from retrain.errors import StoreError
from retrain.preprocessing import InputSpec


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


PATHS = [f"{number}.png" for number in range(7)]


def test_photos_are_as_they_are_decoded_alone(folder):
    with ExitStack() as opened:
        seen = []
        photos = decode_all(
            folder,
            PATHS,
            InputSpec(None, 12, 16),
            folder / "flat",
            opened=opened,
            advance=lambda done, total: seen.append((done, total)),
        )
        assert (folder / "flat").stat().st_size == 7 * 12 * 16 * 3
        assert seen == [(number, 7) for number in range(1, 8)]
        rows = np.array([3, 0, 3])
        expected = [decode((folder / f"{row}.png").read_bytes(), height=12, width=16) for row in rows]
        assert np.array_equal(photos(rows), np.stack(expected))


def test_no_photos_are_no_file(folder):
    with ExitStack() as opened:
        photos = decode_all(folder, [], InputSpec(None, 12, 16), folder / "flat", opened=opened)
        assert photos(np.zeros(0, np.int64)).shape == (0, 12, 16, 3)


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_photo_that_can_no_longer_be_read_is_named(folder, content):
    if content is None:
        (folder / "4.png").unlink()
    else:
        (folder / "4.png").write_bytes(content)
    with ExitStack() as opened, pytest.raises(StoreError, match=r"4\.png cannot be read any more"):
        decode_all(folder, PATHS, InputSpec(None, 12, 16), folder / "flat", opened=opened)


def test_a_disk_that_is_full_is_one_line(folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a full disk, as far as a process can tell
    try:
        with ExitStack() as opened, pytest.raises(StoreError, match="of decoded photos to .*: File too large"):
            decode_all(folder, PATHS, InputSpec(None, 12, 16), folder / "flat", opened=opened)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
