import pytest

from retrain.errors import first_line, printable


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


def test_reasons_hold_no_addresses_in_memory():
    assert first_line(OSError(f"cannot identify image file {object()!r}.")) == "cannot identify image file"
    assert first_line(OSError("<X object at 0x7f1234567890> is no image at 0x7f1234567890: bad 0x1f")) == (
        "is no image: bad 0x1f"
    )
