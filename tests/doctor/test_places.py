"""A mark in a corner of all photos of one class is found, and nothing where photos are told by what they show."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from builders import terminal
from PIL import Image

from retrain.config import RetrainConfig
from retrain.data.dataset import without
from retrain.doctor import places
from retrain.doctor.photos import photos_of
from retrain.evaluation.looking import Looker
from retrain.features import photos_to_check, prepare_features
from retrain.session import Session

pytestmark = pytest.mark.slow

SIDE = 28
CORNERS = {
    "top left corner": np.s_[:8, :8],
    "bottom edge": np.s_[-8:, 8:20],
    "bottom right corner": np.s_[-8:, -8:],
}


class Blind(Looker):
    """One that is not asked."""

    def feature_maps(self, paths):
        assert not list(paths)
        return iter(())


@pytest.fixture
def looked_at(tmp_path, mean_colour_backbone):
    """Return a function that writes photos of any colours, with a mark in those of some classes, and opens them."""
    with ExitStack() as opened:

        def look(*classes, marked=(), where="top left corner"):
            rng = np.random.default_rng(3)
            for name in classes:
                (tmp_path / "photos" / name).mkdir(parents=True)
                for number in range(24):
                    pixels = rng.integers(0, 90, (SIDE, SIDE, 3)) + rng.integers(0, 160, 3)
                    if name in marked:
                        pixels[CORNERS[where]] = 255, 0, 220
                    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
            config = RetrainConfig(
                tmp_path / "photos",
                architecture=str(mean_colour_backbone),
                bottleneck_tensor="mean_colour",
                bottleneck_dir=tmp_path / "bottlenecks",
            )
            said = terminal()[0]
            listed = photos_to_check(config, said, opened)
            return photos_of(prepare_features(config, listed, Session(said, opened)), 0)

        yield look


def blind(photos):
    return replace(photos, looker=Blind(photos.looker.model, photos.looker.extractor))


@pytest.mark.parametrize("where", CORNERS)
def test_a_mark_is_found_where_it_is_and_a_second_look_asks_no_network(where, looked_at):
    photos = looked_at("a", "b", "c", marked=["b"], where=where)
    (finding,) = places.check(photos)
    assert finding.sentence.startswith(f"The {where} of a photo alone tells b from the other classes in ")
    assert finding.figures["places"]["b"]["balanced_accuracy"] > 0.9
    assert len(finding.photos) == 24
    assert all(path.startswith("b/") for path in finding.photos)
    assert places.check(blind(photos)) == [finding]
    assert places.check(photos, passed_over=["b"]) == []


@pytest.mark.parametrize("marked", ["a", "b"])
def test_of_two_classes_both_are_named_and_the_photos_are_those_with_the_mark(marked, looked_at):
    (finding,) = places.check(looked_at("a", "b", marked=[marked]))
    assert f"tells {marked} from {'b' if marked == 'a' else 'a'} in" in finding.sentence
    assert finding.photos[0].startswith(f"{marked}/")


def test_nothing_is_found_where_no_photo_or_each_photo_has_the_mark(looked_at, tmp_path):
    photos = looked_at("a", "b", marked=["a", "b"])
    assert places.check(photos) == []
    assert places.check(replace(photos, looker=None)) == []


def test_small_classes_are_not_looked_at(looked_at):
    photos = looked_at("a", "b", marked=["a"])
    few = without(photos.dataset, [example.path for example in photos.dataset.examples[:6]])
    left = replace(blind(photos), dataset=few, labels=photos.labels[6:], keys=photos.keys[6:])
    assert places.check(left) == []
