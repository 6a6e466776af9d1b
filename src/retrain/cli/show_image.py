"""`show_image`: shows photos with the names of those who took them."""

import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from retrain.cli import console, flags
from retrain.data.image_files import read_image
from retrain.errors import ImageError, first_line, printable
from retrain.files import bound_reading, read_regular
from retrain.metadata import LABELS_BYTES

_LICENCE = "LICENSE.txt"


def main(arguments: Sequence[str]) -> int:
    """Show each photo with its caption and return the exit code."""
    parser = flags.Parser(prog="show_image", description="Shows photos with their captions.")
    parser.add_argument("images", nargs="+", type=Path)
    flags.add_file_size(parser)
    args = flags.parse(parser, arguments)
    bound_reading(args.max_file_size)
    for image in args.images:
        show_image(image)
    return console.DONE


command = partial(console.run, "show_image", main)


def show_image(image: str | Path) -> None:
    """Show a photo in a notebook or in the desktop's viewer, and print its caption.

    Raises:
        ImageError: The file is missing or is no image.
    """
    from PIL import Image

    try:
        data = read_image(Path(image))
        with Image.open(io.BytesIO(data)) as opened:
            if "IPython" in sys.modules:
                from IPython.display import display

                display(opened.convert("RGB"))
            elif sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                opened.show()
            else:
                opened.verify()  # without a screen, the caption is all that can be shown
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders raise any of them
        raise ImageError(f"cannot show {image}: {first_line(error)}. Name a photo.") from error
    print(printable(caption(Path(image))))


def caption(image: Path) -> str:
    """Return "daisy/1.jpg CC-BY by A Name" from the LICENSE.txt above a photo; else its file name.

    Each line of such a file holds a path below it, who made the photo, and after " - " where it comes from.
    """
    for folder in image.absolute().parents:
        licence = folder / _LICENCE
        if not licence.is_file():
            continue
        name = image.absolute().relative_to(folder).as_posix()
        for line in read_regular(licence, LABELS_BYTES).decode("utf-8", "replace").splitlines():
            if line.startswith(f"{name} "):
                return " - ".join(line.split(" - ")[:-1]) or line
    return image.name
