"""Reads and writes the marks that people put on photos: keep it, relabel it, remove it.

A file of marks is JSON lines: `{"retrain_marks": 1, "image_dir": "flower_photos"}`, and then for each photo
`{"path": "roses/a.jpg", "mark": "relabel", "class": "tulips"}`. `data/README.md` says what each field holds.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from retrain.errors import MarksError, did_you_mean, printable
from retrain.files import read_regular

_VERSION = 1
_KIND = "retrain_marks"  # the field of the first line that holds the version
_MARKS_BYTES = 2**28  # of one file: a million photos have half of that


class Action(StrEnum):
    """What is done with a photo that is marked; `KEEP` notes that somebody has looked at it."""

    KEEP = "keep"
    RELABEL = "relabel"
    REMOVE = "remove"


class Mark(NamedTuple):
    """A mark on a photo: its path below the image folder, "/"-separated; the new class, "" where there is none."""

    path: str
    action: Action
    class_name: str = ""


@dataclass(frozen=True)
class Marks:
    """The marks of a file, each photo once, and the hexadecimal SHA-256 of the file."""

    marks: Sequence[Mark]
    sha256: str


def read(file: Path) -> Marks:
    """Return the marks in a file.

    Raises:
        MarksError: It cannot be read, is no file of marks or of a newer version, or a line is damaged or unknown,
            or marks a photo otherwise than a line before it.
    """
    content = content_of(file)
    lines = json_lines(file, content)
    check_kind(file, lines, _KIND, _VERSION)
    marks: dict[str, tuple[int, Mark]] = {}
    for number, line in lines:
        mark = parsed(line, f"line {number} of {file}")
        before, other = marks.setdefault(mark.path, (number, mark))
        if other != mark:
            what = f"marks {mark.path} as {mark.action}, and line {before} as {other.action}"
            raise MarksError(printable(f"line {number} of {file} {what}. Leave one of them."))
    return Marks([mark for _, mark in marks.values()], hashlib.sha256(content).hexdigest())


def written(image_dir: str, marks: Iterable[Mark]) -> bytes:
    """Return marks as the content of a file, which `read` reads; bytes of names that are no UTF-8 become escapes."""
    lines: list[Mapping[str, Any]] = [{_KIND: _VERSION, "image_dir": image_dir}]
    for mark in marks:
        new = {"class": mark.class_name} if mark.action is Action.RELABEL else {}
        lines.append({"path": mark.path, "mark": mark.action, **new})
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def content_of(file: Path) -> bytes:
    """Return the content of a file of JSON lines.

    Raises:
        MarksError: It cannot be read, is no regular file, or is too large.
    """
    try:
        return read_regular(file, _MARKS_BYTES)
    except OSError as error:
        raise MarksError(printable(f"cannot read {file}: {error.strerror}.")) from error


def json_lines(file: Path, content: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the object of each line; empty ones are passed over.

    Names in them may be in any encoding: bytes that are not UTF-8 become surrogates, as in all paths.

    Raises:
        MarksError: A line holds no JSON object.
    """
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise MarksError(f"line {number} of {printable(str(file))} is damaged: it holds no JSON object.")
        yield number, value


def check_kind(file: Path, lines: Iterator[tuple[int, Mapping[str, Any]]], kind: str, newest: int) -> Mapping[str, Any]:
    """Return the first of some lines, which says what a file is and in which version.

    Raises:
        MarksError: It says something else.
    """
    head = next(lines, (0, {}))[1]
    version = head.get(kind)
    if type(version) is not int or version < 1:
        raise MarksError(printable(f'{file} does not begin with {{"{kind}": {newest}}}, so it is no such file.'))
    if version > newest:
        raise MarksError(printable(f"{file} is of version {version}, and at most {newest} is known. Update retrain."))
    return head


def parsed(line: Mapping[str, Any], where: str) -> Mark:
    """Return the mark in a line; unknown fields are passed over.

    Raises:
        MarksError: A field is missing, of another type or unknown; `where` it is begins the message.
    """
    action = line.get("mark")
    if action not in tuple(Action):
        known = ", ".join(Action)
        raise MarksError(
            printable(f"{where} has the mark {action!r}; marks are {known}.{did_you_mean(str(action), Action)}")
        )
    path = name_in(line, "path", where)
    return Mark(path, Action(action), name_in(line, "class", where) if action == Action.RELABEL else "")


def name_in(line: Mapping[str, Any], field: str, where: str) -> str:
    """Return a field that holds the name of a file or a class.

    Raises:
        MarksError: It is missing, empty, or no text that names a file.
    """
    name = line.get(field)
    try:
        if isinstance(name, str) and name and "\0" not in name:
            return os.fsdecode(os.fsencode(name))  # as folders list it
    except UnicodeEncodeError:  # half of a character
        pass
    found = "is missing" if name is None else f"is {name!r}, which names no file"
    raise MarksError(printable(f'{where} is damaged: its "{field}" {found}.'))
