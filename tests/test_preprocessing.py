import numpy as np

from retrain import preprocessing
from retrain.metadata import Metadata


def test_pixels_are_scaled_zero_included():
    pixels = np.array([[0, 255]], np.uint8)
    assert preprocessing.scale_pixels(pixels, Metadata(mean=0.0, std=255.0)).tolist() == [[0.0, 1.0]]
    assert preprocessing.scale_pixels(pixels, Metadata(mean=127.5, std=127.5)).tolist() == [[-1.0, 1.0]]
    assert preprocessing.scale_pixels(pixels, Metadata()).dtype == np.float32
