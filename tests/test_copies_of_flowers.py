"""Copies of real photos are found, and next to nothing else."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from builders import terminal
from PIL import Image, ImageOps

from retrain.config import RetrainConfig
from retrain.doctor import copies
from retrain.doctor.photos import photos_of
from retrain.features import photos_to_check, prepare_features
from retrain.session import Session

_PER_CLASS, _COPIED = 30, 8


def _cropped(picture: Image.Image, place: np.ndarray) -> Image.Image:
    width, height = picture.size
    left, top = round(0.2 * place[0] * width), round(0.2 * place[1] * height)
    return picture.crop((left, top, left + round(0.8 * width), top + round(0.8 * height)))


def _smaller(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


CHANGES: dict[str, Callable[[Image.Image, np.ndarray], Image.Image]] = {
    "cropped": _cropped,
    "mirrored": lambda picture, place: ImageOps.mirror(picture),
    "resized": lambda picture, place: _smaller(picture),
    "encoded": lambda picture, place: picture,
}


def _write(flowers: Path, folder: Path) -> set[frozenset[str]]:
    """Write photos and copies of some of them, and return all pairs of a photo and its copy."""
    places, pairs = np.random.default_rng(0), set()
    for of_class in sorted(path for path in flowers.iterdir() if path.is_dir()):
        (folder / of_class.name).mkdir(parents=True)
        for number, file in enumerate(sorted(of_class.glob("*.jpg"))[:_PER_CLASS]):
            path = folder / of_class.name / file.name
            path.write_bytes(file.read_bytes())
            for name, change in CHANGES.items() if number < _COPIED else ():
                copy = path.with_stem(f"{path.stem}-{name}")
                change(Image.open(file).convert("RGB"), places.random(2)).save(copy, quality=50)
                pairs.add(frozenset(each.relative_to(folder).as_posix() for each in (path, copy)))
    return pairs


@pytest.mark.slow
def test_most_copies_of_flowers_are_found_and_nothing_else(data: Path, tmp_path: Path) -> None:
    expected = _write(data / "datasets" / "flowers_1100", tmp_path / "photos")
    config = RetrainConfig(
        tmp_path / "photos", architecture="mobilenet_bundled", bottleneck_dir=tmp_path / "bottlenecks"
    )
    shown, *_ = terminal()
    with ExitStack() as opened:
        listed = photos_to_check(config, shown, opened)
        photos = photos_of(prepare_features(config, listed, Session(shown, opened)), 0)
        found = copies.find(photos)
    paths = [example.path for example in photos.dataset.examples]
    pairs = {frozenset(paths[number] for number in pair) for pair in found.pairs.tolist()}
    assert len(pairs & expected) >= 0.8 * len(expected)
    # Two copies of one photo are copies of each other, too.
    wrong = [pair for pair in pairs if len({path.split("-")[0].removesuffix(".jpg") for path in pair}) > 1]
    assert len(wrong) <= 0.01 * len(pairs)
