"""Pictures with things in them, large and small, each in places of its own."""

import numpy as np
from PIL import Image


def scene(seed, size=(150, 120)):
    """Return a picture that follows from a seed."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)).resize(size, Image.BICUBIC))
        for side in (5, 11)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))
