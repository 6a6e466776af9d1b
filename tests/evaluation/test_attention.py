"""Where a network looked: known answers for heads whose weights are written by hand."""

import io

import numpy as np
import pytest
from builders import quarters
from PIL import Image

from retrain.evaluation import attention, thumbnails
from retrain.evaluation.attention import SQUARES, Direction
from retrain.head import Head, Layer, linear
from retrain.preprocessing import InputSpec

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


HEADS = {
    "linear": linear(normal(6, 4), normal(4)),
    "hidden": Head((Layer(normal(6, 9), normal(9)), Layer(normal(9, 5), normal(5)), Layer(normal(5, 4), normal(4)))),
}


@pytest.mark.parametrize("kind", HEADS)
def test_what_all_places_say_is_on_average_what_the_head_says_of_the_photo(kind):
    head, maps = HEADS[kind], normal(5, 7, 6)
    vector = maps.mean(axis=(0, 1))
    logits = head.logits(vector[None])[0]
    for class_id in range(4):
        said = Direction.of(head, vector, class_id).on(maps)
        assert said.shape == (5, 7)
        assert said.mean() == pytest.approx(logits[class_id] - logits.mean(), abs=1e-4)


def test_behind_hidden_layers_the_weights_are_the_gradient():
    head, vector = HEADS["hidden"], normal(6)

    def above(at):
        logits = head.logits(at[None].astype(np.float32))[0].astype(np.float64)
        return logits[2] - logits.mean()

    steps = np.eye(6) * 1e-2
    slopes = [(above(vector + step) - above(vector - step)) / 2e-2 for step in steps]
    assert np.allclose(Direction.of(head, vector, 2).weights, slopes, atol=1e-2)


def test_weights_that_all_classes_share_change_nothing():
    head, maps = HEADS["linear"], normal(3, 3, 6)
    shifted = linear(head.last.weights + normal(6, 1) * 9, head.last.biases + 3)
    vector = maps.mean(axis=(0, 1))
    before, after = (Direction.of(each, vector, 1).on(maps) for each in (head, shifted))
    assert np.allclose(before, after, atol=1e-4)


def brightest(data, size):
    """Return the quarter of a picture with the most yellow in it: red and green, less blue."""
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32)
    yellow = pixels[..., 0] + pixels[..., 1] - pixels[..., 2]
    height, width = size[1] // 2, size[0] // 2
    parts = [yellow[top : top + height, left : left + width].mean() for top in (0, height) for left in (0, width)]
    return int(np.argmax(parts))


@pytest.mark.parametrize("place", range(4))
def test_the_picture_is_bright_where_the_class_was_spoken_for(place):
    thumbnail = thumbnails.encode(Image.new("RGB", (128, 96), (90, 90, 90)))
    said = np.full((2, 2), -1, np.float32)
    said[place // 2, place % 2] = 2
    data = attention.picture(thumbnail, said, InputSpec("i", 32, 32))
    assert Image.open(io.BytesIO(data)).size == (128, 96)
    assert brightest(data, (128, 96)) == place


def test_where_nothing_stands_out_nothing_is_bright():
    thumbnail = thumbnails.encode(quarters())
    flat, dark = (np.full((4, 4), value, np.float32) for value in (3, -3))
    assert attention.picture(thumbnail, flat, InputSpec()) == attention.picture(thumbnail, dark, InputSpec())


def test_letterboxed_photos_show_the_inside_of_what_the_network_saw():
    heat = np.zeros((8, 8), np.float32)
    heat[:2] = 1  # the upper bar of a photo that is twice as wide as high
    placed = attention.placed(heat, (128, 64), InputSpec("i", 32, 32, keep_aspect_ratio="letterbox"))
    assert placed.shape == (64, 128)
    assert placed[20:].max() < 0.05
    heat = np.zeros((8, 8), np.float32)
    heat[2:4] = 1  # the upper half of the photo
    placed = attention.placed(heat, (128, 64), InputSpec("i", 32, 32, keep_aspect_ratio="letterbox"))
    assert placed[:24].mean() > 0.8
    assert placed[40:].mean() < 0.1


def test_cropped_photos_are_dark_where_the_network_saw_nothing():
    placed = attention.placed(np.ones((4, 4), np.float32), (128, 64), InputSpec("i", 32, 32, keep_aspect_ratio="crop"))
    assert (placed[:, 32:96] == 1).all()
    assert (placed[:, :32] == 0).all()
    assert (placed[:, 96:] == 0).all()


def test_squashed_photos_show_all():
    placed = attention.placed(np.ones((4, 4), np.float32), (128, 64), InputSpec("i", 32, 32))
    assert (placed == 1).all()


def test_each_square_is_covered_once_and_costs_what_it_took():
    pixels = RNG.integers(0, 100, (33, 47, 3), np.uint8)
    pictures = attention.covered(pixels)
    assert len(pictures) == SQUARES**2
    changed = [(picture != pixels).any(axis=2) for picture in pictures]
    assert (np.sum(changed, axis=0) == 1).all()
    assert changed[1][0, 15]  # row after row
    head = linear(np.array([[1.0, 0.0]], np.float32), np.zeros(2, np.float32))
    vectors = np.full((1 + SQUARES**2, 1), 5, np.float32)
    vectors[1 + 7] = 1
    lost = attention.costs(head, vectors, 0)
    assert lost[1, 2] == 2  # half of 4: the other class's logit is 0
    assert np.count_nonzero(lost) == 1
