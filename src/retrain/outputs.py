"""Decides before the work what a command writes where, and refuses what would cost a user a file."""

import itertools
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain import files
from retrain.errors import ExportError, UsageError
from retrain.storage.folders import Folder

_START = 4096  # bytes of an old file that show its kind
_GENERATOR = b'<meta name="generator" content="retrain">'  # in each page


@dataclass(frozen=True)
class Kind:
    """A kind of file; `matches` says whether an old one, whose first bytes it gets, may be replaced by a new one."""

    name: str
    matches: Callable[[bytes], bool]


@dataclass(frozen=True)
class Output:
    """A file that a command will write, or a folder, whose `kind` is None.

    `flag` is the flag that decides its path. `whole` says of a folder that it is replaced with everything in it.
    """

    path: Path
    flag: str
    kind: Kind | None = None
    whole: bool = False

    @property
    def owns(self) -> bool:
        """Return whether nothing else may lie at its path or below it."""
        return self.kind is not None or self.whole


def _is_text(start: bytes) -> bool:
    """Return whether the bytes are text: UTF-16 by its mark, other encodings by the lack of control characters."""
    return start.startswith((b"\xff\xfe", b"\xfe\xff")) or not re.search(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]", start)


def _is_text_from(beginning: bytes) -> Callable[[bytes], bool]:
    return lambda start: _is_text(start) and start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(beginning)


def _is_graph(start: bytes) -> bool:
    """Return whether the bytes begin a GraphDef, binary or text: a node, and in it its name."""
    if _is_text(start):
        return re.match(rb"\s*node\s*\{", start) is not None
    return re.match(rb"\n[\x80-\xff]{0,4}[\x01-\x7f]\n[\x80-\xff]?[\x01-\x7f][A-Za-z0-9.]", start) is not None


GRAPH = Kind("frozen graph", _is_graph)
LITERT = Kind("LiteRT model", lambda start: start[4:8] == b"TFL3")
ARCHIVE = Kind("archive of this kind", lambda start: start.startswith(b"PK"))
ONNX = Kind("ONNX model", lambda start: start.startswith(b"\x08"))
TEXT = Kind("text file", _is_text)
PAGE = Kind("HTML page", _is_text_from(b"<"))
JSON = Kind("JSON file", _is_text_from(b"{"))
FINDINGS_PAGE = Kind("page of retrain", lambda start: PAGE.matches(start) and _GENERATOR in start)
FINDINGS = Kind("JSON file of findings", _is_text_from(b'{"image_dir"'))
MARKS = Kind("file of marks", _is_text_from(b'{"retrain_marks"'))
PREDICTIONS = Kind("CSV file of predictions", _is_text_from(b"image,true,predicted,score"))
ANY = Kind("file", lambda start: True)
OF_ENDING = {".tflite": LITERT, ".keras": ARCHIVE, ".onnx": ONNX}


def check(outputs: Sequence[Output], inputs: Mapping[str, Folder | None]) -> None:
    """Refuse outputs that would replace each other, an input, or what is no earlier output; make their folders.

    Args:
        outputs: Everything that the command will write.
        inputs: What it reads, by the flag that names it, remote folders too; None where there is nothing.

    Raises:
        ExportError: A file cannot be written, or one of another kind is in its place.
        UsageError: Two of the paths are the same, or one lies in another.
    """
    for output in outputs:
        _check_old(output)
    for one, other in itertools.permutations(outputs, 2):
        _check_pair(one, other)
    for output, (flag, path) in itertools.product(outputs, inputs.items()):
        if isinstance(path, Path) and output.owns and _lies_in(path, output.path):
            raise UsageError(f"{output.flag} would replace {path}, which {flag} reads. Give another {output.flag}.")
    for output in outputs:
        if output.owns:
            files.check_writable(output.path / "saved_model.pb" if output.whole else output.path)
            files.remove_stale_drafts(output.path.parent, output.path.name)


def _check_old(output: Output) -> None:
    """Refuse what lies at the path of a output and is no earlier output of that kind; an empty file is no loss."""
    path, advice = output.path, f"Give another {output.flag}, or move that one away."
    try:
        mode = path.stat().st_mode
        if output.kind is None:
            if not stat.S_ISDIR(mode):
                raise ExportError(f"cannot write into {path}: it is no folder. {advice}")
        elif stat.S_ISDIR(mode):
            raise ExportError(f"cannot write {path}: it is a folder. {advice}")
        elif not stat.S_ISREG(mode):
            raise ExportError(f"cannot write {path}: it is a pipe, a device or a socket. {advice}")
        elif (start := _start(path)) and not output.kind.matches(start):
            raise ExportError(f"cannot write {path}: a file that is no {output.kind.name} is there. {advice}")
    except OSError:  # not there, or not to be read: the attempt to write shows
        return


def _start(path: Path) -> bytes:
    with files.open_regular(path) as file:
        return file.read(_START)


def _check_pair(one: Output, other: Output) -> None:
    if not one.owns or not _lies_in(other.path, one.path):
        return
    if _lies_in(one.path, other.path):
        flags = dict.fromkeys((one.flag, other.flag))
        raise UsageError(f"{' and '.join(flags)} would both write {one.path}. Give one of them another path.")
    raise UsageError(
        f"{other.flag} {other.path} would lie in {one.path}, which {one.flag} writes as a whole. Give another path."
    )


def _lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path is that of a folder or below it, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
