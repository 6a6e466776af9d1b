"""What gives a class away without a look at what is shown is said, and what says nothing is not."""

import calendar

import numpy as np
import pytest
from known_photos import ordinary, photos_of

from retrain.data.properties import DTYPE
from retrain.doctor import shortcuts, telling
from retrain.doctor.findings import Kind

DAY = 24 * 3600


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def found(known, labels, seed=0):
    findings = shortcuts.check(photos_of(labels, known, seed))
    assert {finding.kind for finding in findings} <= {Kind.SHORTCUT}
    return {finding.figures["property"]: finding for finding in findings}


def give_away(known, name, where):
    count = int(where.sum())
    random = np.random.default_rng(5)
    if name == "size":
        known["bytes"][where] *= 2
        known["width"][where], known["height"][where] = 880, 660
    elif name == "format":
        known["format"][where] = b"WEBP"
    elif name == "compression":
        known["bytes"][where] *= 20
    elif name == "camera":
        known["camera"][where] = random.choice([b"Canon", b"Nikon"], count)
        known["camera"][~where] = random.choice([b"Sony", b"Leica"], int((~where).sum()))
    elif name == "day":
        known["taken"] = 1000 * DAY
        known["taken"][where] += random.choice([DAY, 2 * DAY], count)
    elif name == "brightness":
        known["brightness"][where] += 150
    elif name == "colour":
        known["colour"][where, 1] += 150
    elif name == "sharpness":
        known["detail"][where] = random.uniform(8, 13, count)
    elif name == "border":
        known["border"][where] = 255
    return known


@pytest.mark.parametrize(
    "name", ["size", "format", "compression", "camera", "day", "brightness", "colour", "sharpness", "border"]
)
@pytest.mark.parametrize("counts", [(80, 80), (40, 60, 100)])
def test_a_property_that_tells_a_class_is_said_and_no_other_is(name, counts):
    labels = labels_of(*counts)
    findings = found(give_away(ordinary(len(labels)), name, labels == 1), labels)
    assert list(findings) == [name]
    figures = findings[name].figures
    assert figures["class"] in (("class 0", "class 1") if len(counts) == 2 else ("class 1",))
    assert figures["balanced_accuracy"] > 0.9
    assert figures["p"] <= 0.01
    other = {"class 0": "class 1", "class 1": "class 0"}[figures["class"]] if len(counts) == 2 else "the other classes"
    assert f"tells {figures['class']} from {other} in" in findings[name].sentence


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(60, 60), (300, 12), (20, 20, 20, 20, 20)])
def test_nothing_is_said_where_properties_say_nothing(seed, counts):
    labels = labels_of(*counts)
    assert found(ordinary(len(labels), seed), labels, seed) == {}


def test_accuracy_is_balanced():
    labels = labels_of(950, 50)
    told = telling.tell([np.random.default_rng(0).normal(size=1000)], labels, least=0.0, seed=0)
    assert told.accuracy < 0.65
    assert told.p > 0.01


def test_a_class_is_not_told_from_a_handful_of_others():
    labels = labels_of(1, 300)
    assert telling.tell([np.where(labels == 0, 9.0, 1.0)], labels, least=0.0, seed=0).accuracy == 0.0


def test_few_photos_of_a_format_of_one_class_are_said_with_their_paths():
    labels = labels_of(100, 100)
    known = ordinary(200)
    known["format"][:11] = b"PNG"
    findings = found(known, labels)
    assert list(findings) == ["format"]
    assert findings["format"].sentence.startswith("All 11 PNG photos are of class class 0")
    assert findings["format"].photos == [f"0/{number}.jpg" for number in range(11)]
    assert findings["format"].figures["p"] == pytest.approx(0.0004, rel=0.2)  # 0.5 ** 11, drawn without replacement
    known["format"][100:103] = b"PNG"
    assert found(known, labels) == {}


def test_a_class_that_alone_names_cameras_is_said():
    labels = labels_of(100, 100)
    known = ordinary(200)
    known["camera"][:30] = [f"camera {number}".encode() for number in range(30)]
    assert found(known, labels)["camera"].figures["of_class"] == 30


@pytest.mark.parametrize(("name", "words"), [("camera", "by one camera (Canon)"), ("taken", "on one day (1970-01-02)")])
def test_a_class_of_one_source_is_said_and_not_where_all_have_it(name, words):
    labels = labels_of(12, 200)
    known = ordinary(212)
    values = [b"Canon", b"Nikon"] if name == "camera" else [DAY + 5, 9 * DAY]
    known[name][:12] = values[0]
    known[name][12:] = np.random.default_rng(0).permutation([values[0], values[1]] * 100)
    known[name][12:30] = values[1]
    (finding,) = [f for f in found(known, labels).values() if "sources" in f.figures]
    assert words in finding.sentence
    assert list(finding.figures["sources"]) == ["class 0"]
    known[name] = values[0]
    assert found(known, labels) == {}


def test_a_day_after_the_year_9999_is_said_as_any_other():
    labels = labels_of(12, 200)
    known = ordinary(212)
    known["taken"] = np.random.default_rng(0).permutation(212) * DAY
    known["taken"][:12] = calendar.timegm((9999, 12, 99, 0, 0, 0))  # EXIF data says anything
    known["taken"][12:105] = known["taken"][0]
    assert "on one day (10000-03-08)" in found(known, labels)["day"].sentence


def test_unknown_photos_and_none_say_nothing():
    assert found(np.zeros(40, DTYPE), labels_of(20, 20)) == {}
    assert found(ordinary(0), np.zeros(0, np.int64)) == {}
    assert found(ordinary(3), labels_of(1, 2)) == {}
    assert found(ordinary(30), np.zeros(30, np.int64)) == {}


def test_the_same_photos_and_seed_give_the_same():
    labels = labels_of(60, 60)
    known = give_away(ordinary(120), "size", labels == 1)
    assert found(known, labels, 3) == found(known, labels, 3)
