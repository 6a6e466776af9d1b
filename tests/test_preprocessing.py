import numpy as np

from retrain.preprocessing import InputSpec


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
