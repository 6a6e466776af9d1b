"""Photos keep their aspect ratio where that is asked for, in both decoders, as Pillow's own functions do it."""

import numpy as np
import pytest
from builders import as_stored, encoded, graph_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from retrain.data.decoding import decode
from retrain.preprocessing import ASPECT_MODES, PADDING

GREY = (PADDING,) * 3
BILINEAR = Image.Resampling.BILINEAR


def noise(size, seed=0):
    """Return a picture of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def decoded(picture, mode, *, height=64, width=64, kind="PNG", **options):
    data = encoded(picture, kind, **options)
    return decode(data, height=height, width=width, keep_aspect_ratio=mode).astype(int)


@settings(max_examples=60)
@given(*[st.integers(8, 90)] * 4)
def test_the_pixels_are_those_of_pillows_own_functions(width, height, across, down):
    picture, size = noise((width, height)), (across, down)
    fit = ImageOps.fit(picture, size, BILINEAR)
    assert np.array_equal(decoded(picture, "crop", height=down, width=across), np.asarray(fit))
    if min(ImageOps.contain(picture, size).size) > 1:
        padded = ImageOps.pad(picture, size, BILINEAR, color=GREY)
        assert np.array_equal(decoded(picture, "letterbox", height=down, width=across), np.asarray(padded))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(301, 200), (200, 301), (1201, 801), (333, 1000)])
def test_a_circle_stays_a_circle(kind, size):
    picture, radius = Image.new("RGB", size, "white"), min(size) // 3
    ImageDraw.Draw(picture).circle((size[0] / 2, size[1] / 2), radius, "black")

    def sides(mode):
        rows, columns = np.nonzero(decoded(picture, mode, kind=kind).min(axis=2) < 64)
        return np.ptp(rows), np.ptp(columns)

    for mode, scale in (("letterbox", 64 / max(size)), ("crop", 64 / min(size))):
        assert np.abs(np.array(sides(mode)) + 1 - 2 * radius * scale).max() <= 1.5, mode
    assert abs(np.subtract(*sides(None))) > 5


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (200, 199), (400, 3)])
def test_a_letterbox_shows_all_edges_between_grey_bars(size):
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] - 1, size[1] - 1), outline="red", width=max(1, min(size) // 8))
    pixels = decoded(picture, "letterbox")
    is_photo = (pixels != PADDING).any(axis=2)
    rows, columns = (np.flatnonzero(is_photo.any(axis=axis)) for axis in (1, 0))
    photo = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert max(photo.shape[:2]) == 64
    assert min(photo.shape[:2]) == max(1, round(64 * min(size) / max(size)))
    for edge in (photo[0], photo[-1], photo[:, 0], photo[:, -1]):
        assert (edge[:, 0] - edge[:, 1] > 50).all()
    bars = [64 - photo.shape[0], 64 - photo.shape[1]]
    assert [2 * rows[0], 2 * columns[0]] == pytest.approx(bars, abs=1)


@pytest.mark.parametrize("size", [(90, 40), (41, 90), (301, 200)])
def test_a_crop_is_the_same_from_either_side(size):
    picture = noise(size)
    for turn in (ImageOps.mirror, ImageOps.flip):
        turned = np.asarray(turn(Image.fromarray(decoded(picture, "crop").astype(np.uint8)))).astype(int)
        assert np.abs(decoded(turn(picture), "crop") - turned).max() <= 1


@pytest.mark.parametrize("mode", ASPECT_MODES)
@pytest.mark.parametrize(("size", "kind"), [((50, 50), "PNG"), ((1001, 1001), "JPEG"), ((16, 16), "PNG")])
def test_of_a_photo_that_fits_nothing_changes(mode, size, kind):
    assert np.array_equal(decoded(noise(size), mode, kind=kind), decoded(noise(size), None, kind=kind))
    wide = noise((2 * size[0], size[1]))
    options = {"height": 32, "width": 64, "kind": kind}
    assert np.array_equal(decoded(wide, mode, **options), decoded(wide, None, **options))


@pytest.mark.parametrize("mode", ASPECT_MODES)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_is_turned_upright_before_it_gets_its_place(mode, orientation):
    picture, exif = noise((90, 41)), Image.Exif()
    exif[0x0112] = orientation
    turned = decoded(as_stored(picture, orientation), mode, height=33, width=48, exif=exif)
    assert np.abs(turned - decoded(picture, mode, height=33, width=48)).max() <= 1


@pytest.mark.parametrize("size", [(1501, 998), (998, 1501), (3000, 401)])
@pytest.mark.parametrize("mode", ASPECT_MODES)
def test_a_jpeg_that_is_decoded_small_gets_the_place_of_the_whole(mode, size):
    picture = noise(size)
    drafted = decoded(picture, mode, kind="JPEG", quality=95, subsampling=0)
    whole = decoded(picture, mode)
    assert np.array_equal((drafted == PADDING).all(axis=2).all(axis=1), (whole == PADDING).all(axis=2).all(axis=1))
    assert np.abs(drafted - whole).mean() < 3


def test_what_is_transparent_shows_white_and_the_bars_are_grey():
    pixels = decoded(Image.new("RGBA", (40, 20), (255, 0, 0, 0)), "letterbox", height=40, width=40)
    assert (pixels[10:30] == 255).all()
    assert (np.delete(pixels, slice(10, 30), axis=0) == PADDING).all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ASPECT_MODES)
def test_the_graph_gives_the_same_of_every_size(mode):
    height, width = 13, 21
    for size in [(37, 91), (301, 300), (300, 300), (5, 300), (1, 400), (400, 1), (1001, 667)]:
        data = encoded(noise(size), "PNG")
        ours = decode(data, height=height, width=width, keep_aspect_ratio=mode)
        assert np.abs(graph_decoder(height, width, mode)([data]).numpy()[0] - ours).max() <= 1, size


@pytest.mark.slow
@pytest.mark.parametrize("mode", ASPECT_MODES)
def test_the_graph_is_as_near_for_real_photos_as_where_they_are_squashed(mode, codelab_data):
    def difference(data, how):
        ours = decode(data, height=64, width=64, keep_aspect_ratio=how)
        return np.abs(graph_decoder(64, 64, how)([data]).numpy()[0] - ours).mean()

    for path in sorted((codelab_data / "datasets" / "flowers_1100").glob("*/*.jpg"))[::300]:
        data = path.read_bytes()
        assert difference(data, mode) <= difference(data, None) + 1, path
