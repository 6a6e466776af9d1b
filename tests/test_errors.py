import pytest

from retrain.errors import printable


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
