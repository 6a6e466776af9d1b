import os
import shutil
import subprocess

import pytest

from retrain.errors import first_line, printable, shell_quoted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("daisy", "daisy"),
        ("тюльпан", "тюльпан"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\udcff", r"\udcff"),
    ],
)
def test_names_cannot_write_to_the_terminal(name, shown):
    assert printable(name) == shown


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash to read the words")
@pytest.mark.parametrize("name", [b'it\'s a "b"', b"\xff 7$(x)", b"two\nli'nes\\ `x`", "r\u202e\N{TULIP}".encode()])
def test_the_shell_reads_quoted_names_as_they_are_shown(name):
    word = shell_quoted(os.fsdecode(name))
    assert word.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout == name


def test_reasons_hold_no_addresses_in_memory():
    assert first_line(OSError(f"cannot identify image file {object()!r}.")) == "cannot identify image file"
    assert first_line(OSError("<X object at 0x7f1234567890> is no image at 0x7f1234567890: bad 0x1f")) == (
        "is no image: bad 0x1f"
    )
