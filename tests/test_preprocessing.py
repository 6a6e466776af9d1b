import numpy as np
import pytest

from retrain.preprocessing import InputSpec, range_before


def test_pixels_are_scaled_to_what_a_network_takes():
    pixels = np.array([[0, 255]], np.uint8)
    assert InputSpec(mean=0.0, std=255.0).scale(pixels).tolist() == [[0.0, 1.0]]
    assert InputSpec(mean=127.5, std=127.5).scale(pixels).tolist() == [[-1.0, 1.0]]
    assert InputSpec().scale(pixels).dtype == np.float32


def test_what_is_missing_is_filled_from_another_and_zero_is_not_missing():
    spec = InputSpec("input", None, 5, 0.0, None)
    assert spec.filled_from(InputSpec("other", 7, 8, 9.0, 10.0)) == InputSpec("input", 7, 5, 0.0, 10.0)


def test_a_spec_reads_as_one_line():
    assert str(InputSpec("input", 224, 160, 127.5, None)) == "input, 160 x 224 px, (pixel - 127.5) / ?"
    assert str(InputSpec(None, 8, 8, 0.0, 1.0, "crop")) == "?, 8 x 8 px crop, (pixel - 0) / 1"


def test_each_channel_may_have_its_own_mean_and_deviation():
    spec = InputSpec(mean=(123.675, 116.28, 103.53), std=[58.395, 57.12, 57.375])  # a list, as JSON has it
    imagenet = (np.array([112, 115, 117]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = np.broadcast_to(np.array([112, 115, 117], np.uint8), (2, 2, 3))
    assert spec.scale(pixels)[1, 1] == pytest.approx(imagenet, abs=1e-5)
    assert str(spec).endswith("(pixel - 123.675,116.28,103.53) / 58.395,57.12,57.375")
    assert hash(spec) == hash(InputSpec(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("input_std", value) for value in (0.0, (1.0, 0.0, 1.0), float("inf"))),
        *(("input_mean", value) for value in (float("nan"), (1.0, 2.0), [1], "1", 10**400)),
        *(("input_height", value) for value in (0, "128", 10**9)),
        ("input", 7),
        *(("keep_aspect_ratio", value) for value in ("stretch", "", ["crop"], 1)),
    ],
)
def test_values_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        InputSpec(**{{"input": "node"}.get(name, name.removeprefix("input_")): value})


@pytest.mark.parametrize(
    ("factor", "offset", "taken"),
    [
        (1 / 255, 0, (0, 1)), (1 / 127.5, -1, (0, 1)), (1 / 128, -1, (0, 1)),
        ([1 / 58.4, 1 / 57.1, 1 / 57.4], [-2.1, -2.0, -1.8], (0, 1)),  # ImageNet's, from pixels
        (2, -1, (0, 255)), (255, 0, (0, 255)), (0.5, 0.5, (127.5, 127.5)), (127.5, 127.5, (127.5, 127.5)),
        (1, 0, None), (2, 0, None), (1 / 0.225, -2, None), (1 / 65535, 0, None), (-1 / 255, 1, None), (0, 0, None),
    ],
)  # fmt: skip
def test_the_range_of_pixels_follows_from_what_scales_them_where_only_one_makes_sense(factor, offset, taken):
    assert range_before(factor, offset) == taken
