import codecs
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain import metadata
from retrain.errors import GraphError
from retrain.metadata import Metadata, TrainingSplit
from retrain.preprocessing import ASPECT_MODES, InputSpec


def test_what_a_later_version_wrote_is_read():
    told = Metadata.from_json('{"labels": ["a"], "colour_of_the_sky": "blue"}')
    assert told == Metadata(labels=("a",))
    for text in ("[]", "{}", '{"labels": 3}'):
        with pytest.raises(ValueError, match="no metadata of retrain"):
            Metadata.from_json(text)


@pytest.mark.parametrize("mode", ASPECT_MODES)
def test_how_photos_keep_their_aspect_ratio_is_said_only_where_they_do(mode):
    told = Metadata(("a",), InputSpec("input", 8, 8, 0.0, 1.0, mode))
    assert Metadata.from_json(told.to_json()) == told
    assert told.with_io("x", "y", mean=1.0, std=2.0).input.keep_aspect_ratio == mode
    assert "keep_aspect_ratio" not in Metadata(("a",)).to_json()
    assert Metadata(("a",)).filled_from(told).input.keep_aspect_ratio == mode


@pytest.mark.parametrize("value", ["tile", "", 1, ["crop"], "x" * 10_000])
def test_a_model_whose_photos_are_prepared_in_a_way_of_tomorrow_is_refused(value):
    text = json.dumps({"labels": ["a"], "keep_aspect_ratio": value})
    with pytest.raises(GraphError, match="^the model says keep_aspect_ratio .* knows letterbox and crop only") as found:
        Metadata.from_json(text)
    assert len(str(found.value)) < 200


def test_labels_come_back_one_a_line(tmp_path):
    labels = ["Rose-A", "тюльпан", "it's", "two\nlines"]
    metadata.write_labels(tmp_path / "labels.txt", labels)
    assert metadata.read_labels(tmp_path / "labels.txt") == ("Rose-A", "тюльпан", "it's", "two lines")


def test_spaces_at_the_edge_of_a_name_are_its_own(tmp_path):
    metadata.write_labels(tmp_path / "labels.txt", ["c", "c ", " c"])
    assert metadata.read_labels(tmp_path / "labels.txt") == ("c", "c ", " c")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_every_editors_encoding_is_read(tmp_path, mark, encoding):
    text = "daisy\r\nтюльпан\r\n\r\nrose\r\n"
    (tmp_path / "labels.txt").write_bytes(mark + text.encode(encoding))
    assert metadata.read_labels(tmp_path / "labels.txt") == ("daisy", "тюльпан", "rose")


@pytest.mark.parametrize("content", [b"\xff\xfea", b"a\0\0\0b\0\0\0", b"\x89PNG\r\n\0\0\0"])
def test_what_is_no_text_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(GraphError, match=r"cannot read the labels file .*labels.txt: .*--labels\.$"):
        metadata.read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize("between", [" ", "  ", ":", ": ", " : ", "\t", ",", ", "])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_other_tools_are_left_out(between, first):
    names = ("cats", "hot dogs", "3 birds")
    text = "".join(f"{number}{between}{name}\n" for number, name in enumerate(names, first))
    assert metadata.decode_labels(text.encode()) == names
    assert metadata.decode_labels(text.encode(), own=True) == tuple(text.splitlines())


@pytest.mark.parametrize(
    "names",
    [
        ("0 stars", "1 stars", "2 stars"),
        ("0 stars", "1 star", "2 stars"),
        ("1 star", "2 stars"),
        ("0 cats", "2 dogs"),
        ("1 cat", "0 dogs"),
        ("2 cats", "3 dogs"),
        ("0 cats", "dogs"),
        ("0", "1", "2"),
        ("0:", "1:"),
        ("0cats", "1dogs"),
    ],
)
def test_numbers_that_are_names_stay(names):
    assert metadata.decode_labels("\n".join(names).encode()) == names


def test_a_line_of_a_million_tabs_costs_no_time():
    line = "0" + "\t" * 1_000_000
    assert metadata.decode_labels(f"{line}\n{line}x\n".encode()) == (line, line + "x")


def test_the_split_of_the_training_is_part_of_the_metadata():
    contents = [hashlib.sha256(bytes([number])).digest() for number in range(100)]
    plain = TrainingSplit(0, 12.5).with_contents(contents[:50])
    for split in (TrainingSplit(10, 10, folders=True), plain, TrainingSplit(10, 10).with_contents(contents, "tag/0/0")):
        told = Metadata.from_json(Metadata(("a",), split=split).to_json())
        assert told.split == split
    assert [plain.trained_on(content) for content in contents] == [True] * 50 + [False] * 50
    assert "split" not in json.loads(Metadata(("a",)).to_json())


def test_photos_that_groups_held_out_are_part_of_the_metadata():
    split = TrainingSplit(10, 10, group_by="exif").with_held_out(["a/1.jpg"], ["a/caf\u00e9.jpg", "b/\udcff.jpg"])
    told = Metadata.from_json(Metadata(("a",), split=split).to_json()).split
    assert told == split
    paths = ["a/1.jpg", "a/cafe\u0301.jpg", "b/\udcff.jpg", "a/2.jpg"]
    assert [told.held_out(path) for path in paths] == ["validation", "testing", "testing", ""]
    assert told.rule == TrainingSplit(10, 10, group_by="exif")
    assert not TrainingSplit(10, 10, group_by="exif").held_out("a/1.jpg")
    assert "tested" not in Metadata(("a",), split=TrainingSplit(10, 10)).to_json()


def test_distorted_copies_tell_of_their_photo():
    content = hashlib.sha256(b"photo").digest()
    split = TrainingSplit(10, 10).with_contents([hashlib.sha256(content + b"tag/0/0").digest()], "tag/0/0")
    assert split.trained_on(content)
    assert not split.trained_on(hashlib.sha256(b"another").digest())


@pytest.mark.parametrize(
    "row",
    [3, [], "folders", {}, {"validation": "x", "testing": 1}, {"validation": 1, "testing": 2, "contents": "a"},
     {"validation": 1, "testing": 2, "copy": 3}, {"validation": 1, "testing": 2, "tested": 3},
     {"validation": 1, "testing": 2, "validated": "a"}],
)  # fmt: skip
def test_a_damaged_split_is_an_error(row):
    with pytest.raises(ValueError):  # noqa: PT011 (several)
        Metadata.from_json(json.dumps({"labels": ["a"], "split": row}))


def test_what_a_later_version_says_of_the_split_is_passed_over():
    told = Metadata.from_json('{"labels": ["a"], "split": {"validation": 1, "testing": 2, "by": "moonlight"}}')
    assert told.split == TrainingSplit(1, 2)


def folder_names():
    """Return a strategy of what folders may be called, undecodable bytes included."""
    characters = st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])
    return st.text(characters | st.sampled_from("\udce4\udc80"), min_size=1)


@given(st.lists(folder_names()))
def test_names_come_back_as_they_are_but_for_line_breaks(names):
    one_line = [" ".join(name.splitlines() or [name]) for name in names]
    expected = tuple(name for name in one_line if name.strip())
    assert metadata.decode_labels(metadata.encode_labels(names), own=True) == expected


@given(st.binary())
def test_any_bytes_are_names_or_refused(file):
    try:
        names = metadata.decode_labels(file)
    except ValueError:
        return
    assert all(name.strip() and "\n" not in name for name in names)
