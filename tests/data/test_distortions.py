"""Distorted pictures are what the flags say, and the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.data.distortions import NAMES, Distortions, contact_sheet

SIZE = {"height": 20, "width": 30}


def canvas(distortions):
    height, width = distortions.canvas(**SIZE)
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=2).astype(np.uint8)


def made(distortions, seed=b"1"):
    return distortions.apply(canvas(distortions), **SIZE, seed=seed)


ALL = Distortions(True, 10, 20, 30, 15, 10, 10, 20)


@settings(max_examples=40)
@given(
    st.builds(
        Distortions, st.booleans(), st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.floats(0, 180),
        st.floats(0, 100), st.floats(0, 60), st.floats(0, 90),
    ),
    st.binary(max_size=40),
)  # fmt: skip
def test_any_distortion_gives_a_picture_of_the_right_size_and_the_same_again(distortions, seed):
    picture = made(distortions, seed)
    assert (picture.shape, picture.dtype) == ((20, 30, 3), np.uint8)
    assert np.array_equal(picture, made(distortions, seed))


def test_another_seed_gives_another_picture():
    assert len({made(ALL, bytes([number])).tobytes() for number in range(20)}) == 20


def test_nothing_asked_for_changes_nothing():
    nothing = Distortions()
    assert not nothing
    assert np.array_equal(made(nothing), canvas(nothing))


@pytest.mark.parametrize("name", NAMES)
def test_each_flag_changes_pixels_and_the_tag(name):
    one = replace(Distortions(), **{name: 20})
    assert one
    assert one.tag != Distortions().tag
    pictures = [made(one, bytes([number])) for number in range(8)]
    assert any(not np.array_equal(picture, canvas(Distortions())) for picture in pictures)


def test_half_of_the_pictures_are_mirrored():
    flip = Distortions(flip_left_right=True)
    straight = canvas(flip)
    mirrored = [np.array_equal(made(flip, bytes([n])), straight[:, ::-1]) for n in range(200)]
    # Five standard deviations of a fair coin thrown 200 times.
    assert sum(mirrored) == pytest.approx(100, abs=5 * 200**0.5 / 2)


def test_brightness_multiplies_within_its_bounds_and_stays_a_pixel():
    lighter = Distortions(random_brightness=50)
    grey = np.full((20, 30, 3), 100, np.uint8)
    values = {int(lighter.apply(grey, **SIZE, seed=bytes([n]))[0, 0, 0]) for n in range(200)}
    assert min(values) >= 50
    assert max(values) <= 150
    assert max(values) - min(values) > 80
    white = lighter.apply(np.full((20, 30, 3), 255, np.uint8), **SIZE, seed=b"3")
    assert set(np.unique(white)) <= set(range(127, 256))


def test_a_crop_is_a_part_of_the_picture_in_its_own_size():
    crop = Distortions(random_crop=50)
    assert crop.canvas(**SIZE) == (30, 45)
    whole = canvas(crop).astype(int)
    picture = made(crop).astype(int)
    # Rows and columns grow from one pixel to the next as in the whole: nothing was scaled.
    assert np.diff(picture[:, 0, 0]).mean() == pytest.approx(np.diff(whole[:, 0, 0]).mean(), rel=0.1)
    assert np.diff(picture[0, :, 1]).mean() == pytest.approx(np.diff(whole[0, :, 1]).mean(), rel=0.1)


def test_what_a_shift_uncovers_is_filled_with_the_nearest_pixels():
    shift = Distortions(random_shift=40)
    for seed in range(10):
        picture = made(shift, bytes([seed]))
        # Black, of which the photo has one corner, would be what was filled with nothing.
        assert (picture[..., 0] == 0).mean() < 0.6
        assert np.array_equal(picture[0, :, 0], np.full(30, picture[0, 0, 0]))


def test_a_rotation_turns_by_no_more_than_asked_for():
    bar = np.zeros((41, 41, 3), np.uint8)
    bar[20, :] = 255
    turned = [
        Distortions(random_rotation=20).apply(bar, height=41, width=41, seed=bytes([n])).argmax(axis=0)[:, 0]
        for n in range(50)
    ]
    slopes = [np.polyfit(np.arange(8, 33), rows[8:33], 1)[0] for rows in turned]
    degrees = np.degrees(np.arctan(slopes))
    assert np.abs(degrees).max() <= 21
    assert degrees.max() > 10
    assert degrees.min() < -10


def test_a_contact_sheet_holds_every_picture_once():
    rows = [[np.full((4, 6, 3), shade, np.uint8) for shade in shades] for shades in ((10, 20, 30), (40, 50))]
    sheet = contact_sheet(rows)
    shades, counts = np.unique(sheet[..., 0], return_counts=True)
    assert dict(zip(shades.tolist(), counts.tolist(), strict=True)) | {255: 0} == {
        **dict.fromkeys((10, 20, 30, 40, 50), 24),
        255: 0,
    }
    assert (sheet[:4, :6] == 10).all()
