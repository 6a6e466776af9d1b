"""Files of marks: what is read, and what is refused in one line."""

import json
import os

import pytest

from retrain.data import marks
from retrain.data.marks import Action, Mark
from retrain.errors import MarksError

HEAD = '{"retrain_marks": 1, "image_dir": "flower_photos"}\n'


def read(tmp_path, text):
    file = tmp_path / "marks.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return marks.read(file).marks


def test_marks_are_read_with_what_is_unknown_beside_them(tmp_path):
    text = (
        '\ufeff{"retrain_marks": 1}\r\n\r\n'
        '{"path": "roses/a b.jpg", "mark": "keep", "class": 7, "when": [1]}\r\n'
        '{"path": "roses/\u2028ö.jpg", "mark": "relabel", "class": "tulips"}\r\n'
        '{"path": "roses/c.jpg", "mark": "remove"}\r\n{"path": "roses/c.jpg", "mark": "remove"}'
    )
    assert read(tmp_path, text) == [
        Mark("roses/a b.jpg", Action.KEEP),
        Mark("roses/\u2028ö.jpg", Action.RELABEL, "tulips"),
        Mark("roses/c.jpg", Action.REMOVE),
    ]


@pytest.mark.parametrize("name", [b"\xff.jpg", b"\xc3\xa9.jpg", b"\xc3.jpg"])
def test_names_of_any_encoding_are_those_that_folders_list(tmp_path, name):
    path = os.fsdecode(b"roses/" + name)
    escaped = json.dumps({"path": path, "mark": "keep"})
    raw = b'{"path": "roses/' + name + b'", "mark": "keep"}'
    assert read(tmp_path, HEAD.encode() + raw) == read(tmp_path, HEAD + escaped) == [Mark(path, Action.KEEP)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'does not begin with {"retrain_marks": 1}'),
        ("\x00\xff", "line 1 of"),
        ('{"path": "roses/a.jpg", "mark": "keep"}', "does not begin with"),
        ('{"retrain_marks": true}', "does not begin with"),
        ('{"retrain_marks": 2}', "is of version 2, and at most 1 is known"),
        (HEAD + '{"path": "roses/a.jpg", "mark": "kep"}', "line 2 .* has the mark 'kep'.* Did you mean keep"),
        (HEAD + '{"path": "roses/a.jpg", "mark": ["keep"]}', r"line 2 .* has the mark \['keep'\]"),
        (HEAD + '{"path": "roses/a.jpg"}', "line 2 .* has the mark None"),
        (HEAD + '\n{"path": "roses/a.jpg", "mark": "kee', "line 3 .* is damaged: it holds no JSON object"),
        (HEAD + "[" * 100_000, "line 2 .* is damaged"),
        (HEAD + "7", "line 2 .* is damaged"),
        (HEAD + '{"mark": "keep"}', 'its "path" is missing'),
        (HEAD + '{"path": "", "mark": "keep"}', "its \"path\" is ''"),
        (HEAD + '{"path": 7, "mark": "keep"}', 'its "path" is 7'),
        (HEAD + '{"path": "roses/a\\u0000.jpg", "mark": "keep"}', "which names no file"),
        (HEAD + '{"path": "roses/\\ud800.jpg", "mark": "keep"}', "which names no file"),
        (HEAD + '{"path": "roses/a.jpg", "mark": "relabel"}', 'its "class" is missing'),
        (
            HEAD + '{"path": "roses/a.jpg", "mark": "keep"}\n{"path": "roses/a.jpg", "mark": "remove"}',
            "line 3 .* marks roses/a.jpg as remove, and line 2 as keep",
        ),
    ],
)
def test_what_is_no_mark_is_refused_by_its_line(tmp_path, text, words):
    with pytest.raises(MarksError, match=words) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "not a regular file"), ("", "Is a directory"), ("gone", "No such file")):
        with pytest.raises(MarksError, match=words):
            marks.read(tmp_path / name)
