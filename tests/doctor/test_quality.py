"""Poor photos are named, and photos that are as the others of their set are not."""

import numpy as np
import pytest
from known_photos import ordinary, photos_of

from retrain.data.marks import Action, Mark
from retrain.data.properties import DTYPE
from retrain.doctor import quality
from retrain.doctor.findings import Kind

FAULTS = {
    "tiny": {"width": 40, "height": 30},
    "dark": {"bright_end": 20, "dark_end": 0, "detail": 1},
    "bright": {"dark_end": 240, "bright_end": 250},
    "empty": {"contrast": 1, "detail": 0.1},
    "blurred": {"detail": 6},
    "odd_shape": {"width": 1200, "height": 150},
}


def check(known):
    return quality.check(photos_of(np.zeros(len(known), int), known))


def spoil(known, fault, numbers):
    for name, value in FAULTS[fault].items():
        known[name][numbers] = value
    return known


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named_once(fault):
    (finding,) = check(spoil(ordinary(100), fault, [7, 31]))
    assert (finding.kind, finding.figures) == (Kind.QUALITY, {"fault": fault, "count": 2})
    assert sorted(finding.photos) == ["0/31.jpg", "0/7.jpg"]
    assert "2 photos" in finding.sentence
    assert "0/7.jpg" in finding.sentence
    marked = finding.photos if "emove" in finding.sentence else []
    assert finding.marks == [Mark(path, Action.REMOVE) for path in marked]
    assert bool(marked) == (fault not in ("tiny", "odd_shape"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_set_in_which_all_are_so_is_as_it_should_be(fault):
    assert check(spoil(ordinary(100), fault, np.arange(100))) == []
    mostly = spoil(ordinary(100), fault, np.arange(80))
    for name in FAULTS[fault]:
        mostly[name][:80] += np.random.default_rng(1).permutation(80).astype(mostly[name].dtype) % 3
    mostly["contrast"][7] /= 2
    assert check(mostly) == []


def test_the_worst_come_first_and_more_of_them_weigh_more():
    known = ordinary(100)
    known["detail"][[3, 4, 5]] = [5, 2, 4]
    (several,) = check(known)
    assert several.photos == ["0/4.jpg", "0/5.jpg", "0/3.jpg"]
    (one,) = check(spoil(ordinary(100), "blurred", [1]))
    assert one.severity < several.severity <= 0.5
    assert one.sentence.startswith("1 photo is blurred: 0/1.jpg.")


def test_nothing_is_found_in_ordinary_photos_in_unknown_ones_and_in_none():
    assert check(ordinary(200)) == []
    assert check(np.zeros(3, DTYPE)) == []
    assert check(ordinary(0)) == []


def test_photos_of_which_nothing_is_known_are_passed_over():
    known = spoil(ordinary(100), "dark", [8])
    known[2] = np.zeros((), DTYPE)
    assert [finding.photos for finding in check(known)] == [["0/8.jpg"]]


def test_enlarged_photos_are_not_called_blurred():
    known = spoil(ordinary(100), "blurred", [1])
    known["width"][1] = known["height"][1] = 100
    assert check(known) == []
