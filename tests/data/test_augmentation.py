"""Augmentation: a function of its seed, within the range of pixels, and nothing where nothing is asked."""

import numpy as np
import pytest

from retrain.data.augmentation import USUAL, Augmentation, in_graph
from retrain.data.distortions import Distortions

SIZE = (24, 32)


def photos(augmented, count=16):
    return np.random.default_rng(0).integers(0, 256, (count, *augmented.canvas(SIZE), 3)).astype(np.uint8)


def applied(augmented, pixels, seed=0):
    draws = augmented.draw(np.random.default_rng(seed), len(pixels), SIZE)
    return in_graph(pixels, *draws, size=SIZE).numpy()


@pytest.mark.parametrize("augmented", [USUAL, Augmentation(Distortions(random_rotation=30, random_brightness=100))])
def test_augmented_photos_follow_from_the_seed_and_stay_pixels(augmented):
    pixels = photos(augmented)
    images = applied(augmented, pixels)
    assert images.shape == (16, *SIZE, 3)
    assert images.min() >= 0
    assert images.max() <= 255
    assert np.array_equal(images, applied(augmented, pixels))
    assert not np.array_equal(images, applied(augmented, pixels, seed=1))


def test_without_any_change_photos_stay_what_they_are():
    pixels = photos(Augmentation(Distortions()))
    assert np.array_equal(applied(Augmentation(Distortions()), pixels), pixels)


def test_half_of_the_photos_are_mirrored_and_nothing_else():
    mirroring = Augmentation(Distortions(flip_left_right=True))
    pixels = photos(mirroring, 100)
    images = applied(mirroring, pixels)
    mirrored = [np.array_equal(image, photo[:, ::-1]) for image, photo in zip(images, pixels, strict=True)]
    same = [np.array_equal(image, photo) for image, photo in zip(images, pixels, strict=True)]
    assert 30 <= sum(mirrored) <= 70
    assert sum(mirrored) + sum(same) == 100


def gradient(height, width):
    """A photo whose red is the row and whose green is the column."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, 100)], axis=2).astype(np.uint8)[None]


def test_a_crop_is_a_part_of_the_photo_in_its_size():
    cropping = Augmentation(Distortions(random_crop=10))
    height, width = cropping.canvas(SIZE)
    assert (height, width) == (27, 36)
    for seed in range(20):
        image = applied(cropping, gradient(height, width), seed)[0]
        assert image[-1, 0, 0] - image[0, 0, 0] == pytest.approx((SIZE[0] - 1) * height / 1.1 / SIZE[0], abs=0.01)
        assert 0 <= image[0, 0, 0] <= image[-1, 0, 0] <= height - 1
        assert 0 <= image[0, 0, 1] <= image[0, -1, 1] <= width - 1


@pytest.mark.parametrize("name", ["random_rotation", "random_shift", "random_shear", "random_zoom"])
def test_a_warp_is_that_of_the_distorted_copies(name):
    """Drawn apart, the places that the middle of a photo goes to are as far from it on average."""
    warping, middle = Distortions(**{name: 20}), (slice(8, 16), slice(12, 20))
    photo = 7 * gradient(*SIZE)
    moved = {
        "here": [applied(Augmentation(warping), photo, seed)[0] for seed in range(200)],
        "there": [
            warping.apply(photo[0], height=SIZE[0], width=SIZE[1], seed=bytes([n])).astype(float) for n in range(200)
        ],
    }
    far = {key: np.abs(np.stack(images) - photo)[(slice(None), *middle)].mean() for key, images in moved.items()}
    assert far["here"] == pytest.approx(far["there"], rel=0.2)


def test_a_large_part_to_crop_from_does_not_make_photos_large():
    assert Augmentation(Distortions(random_crop=1000)).canvas((224, 224)) == (256, 256)


def test_brightness_and_contrast_change_light_alone():
    photo = np.full((1, *SIZE, 3), 100, np.uint8)
    bright = Augmentation(Distortions(random_brightness=50))
    assert {applied(bright, photo, seed).std() < 1e-3 for seed in range(5)} == {True}
    contrasted = Augmentation(Distortions(), contrast=50)
    assert applied(contrasted, photo, 0) == pytest.approx(100)
    spread = [applied(contrasted, gradient(*SIZE), seed).std() for seed in range(5)]
    assert max(spread) > gradient(*SIZE).std() > min(spread)
