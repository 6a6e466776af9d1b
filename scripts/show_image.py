"""`python -m scripts.show_image IMAGE ...`: photos with the names of those who took them."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from retrain.cli import (
    console,
    flags,
)
from retrain.cli.show_image import caption
from retrain.errors import (
    ImageError,
    first_line,
    printable,
)


def show_image(image: str | Path) -> None:
    """Show a photo in a notebook, or in the desktop's viewer, and print its caption.

    Raises:
        ImageError: The file is not there or no image.
    """
    from PIL import Image

    try:
        with Image.open(image) as opened:
            if "IPython" in sys.modules:
                from IPython.display import display

                display(opened.convert("RGB"))
            elif sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                opened.show()
            else:
                opened.verify()  # there is no screen; the caption is all that can be shown
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders raise any of them
        raise ImageError(f"cannot show {image}: {first_line(error)}. Name a photo.") from error
    print(printable(caption(Path(image))))


def main(arguments: Sequence[str]) -> int:
    """Show each photo that is named."""
    parser = argparse.ArgumentParser(prog="show_image", description="Shows photos with their captions.")
    parser.add_argument("images", nargs="+", type=Path)
    for image in flags.parse(parser, arguments).images:
        show_image(image)
    return console.DONE


if __name__ == "__main__":
    console.run("show_image", main)
