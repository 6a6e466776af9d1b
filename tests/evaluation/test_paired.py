"""Two classifiers on the same photos: who was right where, and whether that means anything."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.evaluation import paired
from retrain.evaluation.paired import Flip, PhotoPrediction, compare, mcnemar, verdict


def photos(**predicted):
    """Test photos of class "a", by what each was called."""
    return [PhotoPrediction(f"a/{name}.jpg", "a", answer, 0.9) for name, answer in predicted.items()]


def test_photos_that_both_tested_are_compared_and_flips_are_named():
    first = photos(p="a", q="a", r="b", s="b", only_here="a")
    second = photos(q="b", p="a", r="a", s="c", only_there="a")
    result = compare(first, second)
    assert (result.photos, result.both_right, result.relabelled) == (4, 1, 0)
    assert result.only_first == [Flip("a/q.jpg", "a", "a", "b")]
    assert result.only_second == [Flip("a/r.jpg", "a", "b", "a")]
    assert result.accuracies == (0.5, 0.5)
    assert result.p_value == 1.0


def test_a_photo_that_moved_to_another_class_is_left_out_and_counted():
    moved = [PhotoPrediction("a/p.jpg", "b", "b", 0.9)]
    result = compare(photos(p="a", q="a"), [*moved, *photos(q="a")])
    assert (result.photos, result.relabelled) == (1, 1)


def test_nothing_in_common_has_no_accuracy():
    result = compare(photos(p="a"), photos(q="a"))
    assert result.photos == 0
    assert all(map(math.isnan, result.accuracies))


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_that_of_a_fair_coin(one, other):
    count = one + other
    tail = Fraction(sum(math.comb(count, k) for k in range(min(one, other) + 1)), 2**count)
    assert mcnemar(one, other) == pytest.approx(float(min(Fraction(1), 2 * tail)))
    assert mcnemar(one, other) == mcnemar(other, one)


def test_the_p_value_of_many_photos_is_a_number():
    assert mcnemar(50_000, 50_000) == pytest.approx(1.0)
    assert 0 <= mcnemar(49_000, 51_000) < 1e-9


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (0, 0, "no difference"),
        (5, 0, "fewer than 6 never show a difference"),
        (6, 0, "Of 6 photos that one alone got right, A has 6. .* in 3.1 % of such tests .*: A is very likely better"),
        (2, 6, "B has 6.* in 29 % of such tests .*: that is no evidence that one of them is better"),
        (0, 40, "in less than 0.1 % of such tests .*: B is very likely better"),
    ],
)
def test_the_verdict_is_in_words(one, other, words):
    first = photos(**{f"x{n}": "a" for n in range(one)}, **{f"y{n}": "b" for n in range(other)})
    second = photos(**{f"x{n}": "b" for n in range(one)}, **{f"y{n}": "a" for n in range(other)})
    assert re.search(words, verdict(compare(first, second), "A", "B"))


def test_predictions_with_odd_names_survive_the_file_and_match_each_other():
    odd = [PhotoPrediction(name, "a,b", '"c"', 0.5) for name in ("=sum.jpg", "a\nb.jpg", "caf\udce9.jpg", "x, y.jpg")]
    read = paired.decode(paired.encode(odd))
    assert len({row.image for row in read}) == len(odd)
    assert compare(read, paired.decode(paired.encode(odd))).photos == len(odd)


@pytest.mark.parametrize(
    "data",
    [b"", b"a,b\n", b"image,true,predicted,score\na.jpg,a\n", b"\xff\xfe", b"image,true,predicted,score\na,b,c,d\n"],
)
def test_what_is_no_such_file_is_a_value_error(data):
    with pytest.raises(ValueError, match="no predictions|could not convert|can't decode"):
        paired.decode(data)
