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


def faultless_folder(folder, per_class=25):
    """Write two classes that are told apart by their colours, but not surely, and in which nothing is wrong."""
    for class_id, name in enumerate("ab"):
        for number in range(per_class):
            picture = np.asarray(scene(100 * class_id + number, (60, 60))).astype(float)
            shift = np.random.default_rng([class_id, number]).uniform(100, 180, 3) + np.array([24, 0, 0]) * class_id
            levels = (picture - picture.mean((0, 1))) / 2 + shift + np.array([0, 0, 24]) * (1 - class_id)
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(path)
    return folder
